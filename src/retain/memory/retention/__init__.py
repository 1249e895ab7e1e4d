"""The retention gate: what a memory lets go."""

from .boundary import Boundary as Boundary
from .bregman import Bregman as Bregman
from .channel_decay import ChannelDecay as ChannelDecay
from .decay import Decay as Decay
from .elastic_net import ElasticNet as ElasticNet
from .f_divergence import FDivergence as FDivergence
from .keep import Keep as Keep
from .kl import KL as KL
from .lq import Lq as Lq
from .outer_decay import OuterDecay as OuterDecay
from .per_channel import PerChannel as PerChannel
