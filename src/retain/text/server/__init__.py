"""A text memory as a server of the Model Context Protocol. It needs the package ``mcp``, so nothing else of ``retain.text`` imports it."""

from .over_http import Door as Door
from .over_http import serve_http as serve_http
from .tools import server_of as server_of
