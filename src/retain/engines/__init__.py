"""Engines: each runs a rule in its own way, and none changes the answer."""

from .delta import Delta as Delta
from .dual import Dual as Dual
from .materialised import Materialised as Materialised
from .recurrent import Recurrent as Recurrent
from .select import select as select
from .shards import begun as begun
from .shards import in_shards as in_shards
from .still import answered as answered
from .still import completed as completed
from .still import folded as folded
from .still import weights_of as weights_of
from .trail import Trail as Trail
from .trail import in_steps as in_steps
