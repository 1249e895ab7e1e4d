"""A server on a port of this machine, and who may come in."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp, Receive, Scope, Send

PATH = "/mcp"


@dataclass(frozen=True, kw_only=True)
class Door:
    """Where a server listens, and what is asked of those who knock.

    Without a token it listens to this machine alone, and to no browser that was led here by another site's name.

    Args:
        host: Name or number of the interface.
        port: Its port; 0 takes any that is free.
        token: What requests must carry, as ``Authorization: Bearer TOKEN``; None asks for nothing.

    Raises:
        ValueError: The host can be reached from other machines and there is no token, or the token cannot stand in a header.

    Examples:
        >>> Door(host="0.0.0.0")
        Traceback (most recent call last):
        ValueError: 0.0.0.0 can be reached from other machines, and anybody there could read and write the memory. Cure: a token, or the host 127.0.0.1.
        >>> Door(host="0.0.0.0", token="a1b2c3").admits([(b"authorization", b"Bearer a1b2c3")])
        True
    """

    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be 0 to 65535, got {self.port}.")
        if self.token is None and not _is_loopback(self.host):
            raise ValueError(
                f"{self.host} can be reached from other machines, and anybody there could read and write the memory. Cure: a token, or the host 127.0.0.1."
            )
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token and " " not in self.token):
            raise ValueError("a token is made of letters, digits and signs of ASCII, without spaces. Cure: openssl rand -hex 32.")

    def admits(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Whether a request with these headers may come in; as long in the answering however much of the token is right."""
        if self.token is None:
            return True
        shown = [value for name, value in headers if name.lower() == b"authorization"]
        if len(shown) != 1:
            return False
        scheme, _, token = shown[0].partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self.token.encode())

    def listening(self) -> socket.socket:
        """A socket that listens there.

        Raises:
            OSError: The port is taken, or there is no such host.
        """
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            opened = socket.socket(family, kind, protocol)
        except OSError as error:
            raise OSError(f"there is no host {self.host!r} to listen on: {error.strerror}.") from None
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
            opened.listen(128)
        except OSError as error:
            opened.close()
            raise OSError(f"{self.host} cannot be listened on at port {self.port}: {error.strerror}. Cure: another --port.") from None
        return opened

    @property
    def security(self) -> TransportSecuritySettings:
        """Names of this machine are asked for where no token is."""
        if self.token is not None:
            return TransportSecuritySettings(enable_dns_rebinding_protection=False)
        names = ["127.0.0.1", "localhost", "[::1]", f"[{self.host}]" if ":" in self.host else self.host]
        return TransportSecuritySettings(allowed_hosts=[f"{name}:*" for name in names], allowed_origins=[f"http://{name}:*" for name in names])


def serve_http(server: MCPServer[Any], door: Door, ready: Callable[[str], object]) -> None:
    """Serve over streamable HTTP until a signal ends it.

    Args:
        server: The server.
        door: Where it listens, and to whom.
        ready: Called with its address when it listens.

    Raises:
        OSError: The port is taken, or there is no such host.
    """
    with door.listening() as opened:
        port = opened.getsockname()[1]
        app = server.streamable_http_app(
            streamable_http_path=PATH, stateless_http=True, json_response=True, transport_security=door.security, host=door.host
        )
        running = uvicorn.Server(uvicorn.Config(_guarded(app, door), log_level="warning", access_log=False, ws="none", timeout_graceful_shutdown=5))
        ready(f"http://{f'[{door.host}]' if ':' in door.host else door.host}:{port}{PATH}")
        running.run(sockets=[opened])


def _guarded(app: ASGIApp, door: Door) -> ASGIApp:
    """The same application behind the door."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or door.admits(scope["headers"]):
            await app(scope, receive, send)
            return
        said = b'{"error": "a valid token is needed: Authorization: Bearer TOKEN"}'
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(said)).encode()), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": said})

    return guarded


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
