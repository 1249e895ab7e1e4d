"""Engines: each runs a rule in its own way, and none changes the answer."""

from .dual import Dual as Dual
from .recurrent import Recurrent as Recurrent
from .select import select as select
