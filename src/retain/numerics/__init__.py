"""Mathematics that has never heard of memory."""

from .decay import products as products
from .decay import running as running
from .ragged import Layout as Layout
from .recompute import recompute as recompute
