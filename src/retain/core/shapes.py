"""Names of the shapes that cross a public border.

Legend: ``batch`` rows, ``time`` tokens, ``heads``, ``pairs`` key-value pairs of one token, ``key`` and ``value`` the widths of a head,
``order`` the momentum orders, ``dim`` the width of the model.
"""

from collections.abc import Mapping

from jaxtyping import Bool, Float, Int
from torch import Tensor

Params = Mapping[str, Tensor]  # the weights of a memory, by name; each [batch, heads, *shape of one memory's tensor]

Stream = Float[Tensor, "batch time dim"]
Queries = Float[Tensor, "batch time heads key"]
Keys = Float[Tensor, "batch time heads pairs key"]
Values = Float[Tensor, "batch time heads pairs value"]
Outputs = Float[Tensor, "batch time heads value"]
Rates = Float[Tensor, "batch time heads pairs"]
Surprise = Float[Tensor, "batch time heads"]
TokenMask = Bool[Tensor, "batch time"]
RowMask = Bool[Tensor, " batch"]
Clock = Int[Tensor, " batch"]
