"""What a memory must know of its model before it is trained: how its features lie, and how loud its answer has to be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from .attach import attentions_of, branches_of, decoder_of, disable_memory
from .branch import MemoryBranch

Batches = Iterable[Tensor | Mapping[str, Any]]
"""Numbers of tokens [batch, time], or mappings with ``input_ids`` and perhaps ``attention_mask``, as tokenizers make them."""

MASSIVE = 3.0
"""How many times as large as the middling token an attention sink is at least, in the stream before the norm."""


def calibrate(model: PreTrainedModel, batches: Batches) -> PreTrainedModel:
    r"""Measure the features of branches with ``features="centred"``: $\mu = \mathrm{mean}\,x$ and $\sigma = \mathrm{rms}(x - \mu)$.

    $x$ is a layer's normalised input, read with the memories off; the mean is over tokens, the root mean square over tokens and channels. Attention sinks
    are left out: tokens that are more than three times as large in the stream before the norm as the middling token of the first batch. Their own direction
    is measured, too, by which the branch then knows them.

    Args:
        model: A model with memories.
        batches: Tokens, such as the model will read. A few thousand do.

    Returns:
        The model.

    Raises:
        ValueError: No branch has centred features, or the tokens are too few to differ. Nothing has been changed.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import MemoryConfig, attach
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2))
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}, features="centred"))
        >>> branch = branches_of(calibrate(model, [torch.arange(32).view(2, 16)]))[0]
        >>> bool(branch.features.spread > 0)
        True
    """
    branches = branches_of(model)
    if not any(branch.features is not None for branch in branches):
        raise ValueError("no branch of the model has features to calibrate. Cure: MemoryConfig(features='centred').")
    tallies = _tally(model, batches)
    if not all(tally.spread() > 0 for tally in tallies):
        raise ValueError(f"the features of {tallies[0].count} tokens do not differ from each other. Cure: batches of more tokens.")
    for branch, tally in zip(branches, tallies, strict=True):
        if branch.features is not None:
            branch.features.mean.copy_(tally.mean())
            branch.features.spread.fill_(tally.spread())
            branch.features.sink.copy_(tally.sink())
    return model


def start_recalling(model: PreTrainedModel, batches: Batches, *, scale: float = 2.5, lags: Sequence[float] | None = None) -> PreTrainedModel:
    r"""Start branches with ``values="embedding"`` as ones that say the token they recall: $W_v$ orthogonal, $W_o = c\,\sqrt{d / H}\,W_v^\top$.

    A token whose embedding $e$ is recalled perfectly is answered $c\,e / \mathrm{rms}(e)$, with $c$ ``scale`` times the root mean square of the residual
    stream that the answer is added to; so the head of the model, which knows embeddings if the two are tied, reads it off. If the heads are narrower than
    the model together, the answer is the part of that which fits through them. This is ours, not the papers'.

    Symbols: $d$ width of the model, $H$ ``heads``.

    Args:
        model: A model with memories, before it is trained.
        batches: Tokens, such as the model will read; the streams are measured on them, sinks left out, with the memories off.
        scale: $c$ in units of the stream. What reaches it is the gate's share of that.
        lags: Standard deviations of the convolution's kernel at the present, one token back, and so on, channel by channel; queries begin with it at lags
            $0..w-2$ and keys at $1..w-1$. None leaves it as it is.

    Returns:
        The model.

    Raises:
        ValueError: Branches hold something else than embeddings; something stands between them and the answer: an activation, a norm, a gate, or no
            projection; keys do not start as queries of one token earlier; or the lags are not one fewer than the convolution sees. Nothing has been changed.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import MemoryConfig, attach
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2))
        >>> plain = {"output": {"norm": None, "gate": None}, "projections": {"start": "recall", "activation": None}}
        >>> model = attach(base, MemoryConfig(layers=(-1,), memory={"heads": 2, **plain}, values="embedding"))
        >>> memory = branches_of(start_recalling(model, [torch.arange(32).view(2, 16)], lags=(1, 1, 0.3)))[0].memory
        >>> w = memory.projections.to_v.weight
        >>> torch.allclose(w @ w.T, torch.eye(16), atol=1e-5)
        True
    """
    branches = branches_of(model)
    for branch in branches:
        _can_recall(branch, lags)
    for branch, tally in zip(branches, _tally(model, batches), strict=True):
        _recall(branch, scale * tally.loudness(), lags)
    return model


def _can_recall(branch: MemoryBranch, lags: Sequence[float] | None) -> None:
    made, output = branch.memory.projections.projections, branch.memory.output.output
    plain = made.start == "recall" and made.activation is None and made.prenorm is None and made.values == "same"
    if branch.values != "embedding" or not plain or output.norm is not None or output.gate is not None or not output.project:
        raise ValueError(
            "a memory starts recalling only where nothing stands between the embedding that it holds and its answer; got "
            f"values={branch.values!r}, {made} and {output}. Cure: MemoryConfig(values='embedding', memory={{..., 'projections': {{'start': 'recall', "
            "'activation': None}, 'output': {'norm': None, 'gate': None}})."
        )
    if lags is not None and len(lags) != made.conv - 1:
        raise ValueError(
            f"lags are one for each token that a key or a query is made of, one fewer than the convolution sees; got {len(lags)} and conv={made.conv}. "
            f"Cure: Projections(conv={len(lags) + 1})."
        )


@torch.no_grad()
def _recall(branch: MemoryBranch, loudness: float, lags: Sequence[float] | None) -> None:
    memory = branch.memory
    made, to_out = memory.projections, memory.output.to_out
    assert to_out is not None
    assert made.conv is not None
    nn.init.orthogonal_(made.to_v.weight)
    to_out.weight.copy_(loudness * (memory.dim / memory.heads) ** 0.5 * made.to_v.weight.T)
    if lags is not None:
        inner, width = made.to_q.out_features, made.conv.width
        kernel = torch.randn(width - 1, inner) * torch.tensor(lags)[:, None]
        made.conv.weight[:, : 2 * inner] = 0.0
        made.conv.weight[: width - 1, :inner] = kernel
        made.conv.weight[1:, inner : 2 * inner] = kernel


class _Tally:
    """What one layer's stream and features are like, summed up in float64 over the tokens that are no attention sinks.

    Sinks are told by the stream that the layer adds to, in which they are a hundred times as large as other tokens; the norm takes that from the features.
    """

    def __init__(self) -> None:
        self.most = self.stream = self.total = self.squares = self.sinking = torch.zeros(())
        self.kept, self.count, self.sinks = torch.empty(0), 0, 0

    def see_stream(self, x: Tensor) -> None:
        """Tokens of the stream [tokens, dim]."""
        power = x.double().square().mean(-1)
        if not self.count:
            self.most = MASSIVE**2 * power.median()
        self.kept = power <= self.most
        self.stream = self.stream.to(power) + power[self.kept].sum()

    def see_features(self, x: Tensor) -> None:
        """The same tokens, normalised."""
        x, sinks = x[self.kept].double(), x[~self.kept].double()
        self.total, self.squares = self.total.to(x) + x.sum(0), self.squares.to(x) + x.square().mean(-1).sum()
        self.sinking = self.sinking.to(x) + sinks.sum(0)
        self.count, self.sinks = self.count + len(x), self.sinks + len(sinks)

    def sink(self) -> Tensor:
        """The direction of the sinks' centred features, of length one; zero if there were none."""
        return F.normalize(self.sinking - self.sinks * self.mean(), dim=0)

    def loudness(self) -> float:
        return float((self.stream / self.count).sqrt())

    def mean(self) -> Tensor:
        return self.total / self.count

    def spread(self) -> float:
        return float((self.squares / self.count - self.mean().square().mean()).clamp(min=0).sqrt())


@torch.no_grad()
def _tally(model: nn.Module, batches: Batches) -> list[_Tally]:
    """What was seen at each branch while the base read the batches."""
    decoder = decoder_of(model)
    real, hooks, tallies = torch.empty(0), [], []

    def shown_to(see: Callable[[Tensor], None]) -> Any:
        return lambda module, args, kwargs: see((args[0] if args else kwargs["hidden_states"])[real])

    for name, attention in attentions_of(model).items():
        tallies.append(tally := _Tally())
        layer = decoder.get_submodule(name.rpartition(".")[0])
        hooks += [
            place.register_forward_pre_hook(shown_to(see), with_kwargs=True)
            for place, see in ((layer, tally.see_stream), (attention, tally.see_features))
        ]
    device = next(decoder.parameters()).device
    try:
        with disable_memory(model):
            for batch in batches:
                given = {"input_ids": batch} if isinstance(batch, Tensor) else batch
                tokens, mask = (None if given.get(key) is None else given[key].to(device) for key in ("input_ids", "attention_mask"))
                if tokens is None:
                    raise ValueError(f"a batch is a tensor of tokens [batch, time] or a mapping with input_ids, got one with {', '.join(given)}.")
                real = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask.bool()
                if bool(real.any()):
                    decoder(tokens, attention_mask=mask, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    if not all(tally.count for tally in tallies):
        raise ValueError("the batches hold no token. Cure: batches of tokens [batch, time]; note that a generator can be gone through once only.")
    return tallies
