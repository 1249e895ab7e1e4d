"""Named rules, in the order in which they are listed. Each composes the parts; none branches."""

# ruff: noqa: I001

from .linear import linear_attention as linear_attention
from .linear import retnet as retnet
from .linear import lightning_attention as lightning_attention
from .linear import mamba2 as mamba2
from .linear import gla as gla
from .linear import hgrn2 as hgrn2
from .linear import decaying_fast_weights as decaying_fast_weights
from .linear import delta_net as delta_net
from .linear import gated_delta_net as gated_delta_net
from .linear import oja as oja
from .linear import rwkv7 as rwkv7
from .linear import longhorn as longhorn
from .linear import delta_product as delta_product
from .linear import mesa as mesa
from .deep import ttt_linear as ttt_linear
from .deep import ttt_mlp as ttt_mlp
from .deep import titans as titans
from .deep import tnt as tnt
from .miras import moneta as moneta
from .miras import yaad as yaad
from .miras import memora as memora
from .deep import omega_net as omega_net
from .deep import atlas as atlas
