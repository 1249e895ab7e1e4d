"""MIRAS, literally: the four choices of a memory, a folder each, and the presets that compose them."""

from . import bias as bias
from . import learner as learner
from . import presets as presets
from . import retention as retention
from . import structure as structure
