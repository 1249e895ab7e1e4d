"""The retention gate: what a memory lets go."""

from .channel_decay import ChannelDecay as ChannelDecay
from .decay import Decay as Decay
from .keep import Keep as Keep
