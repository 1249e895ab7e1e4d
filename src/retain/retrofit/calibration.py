"""What a memory must know of its model before it is trained: how its features lie, and how loud its answer has to be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .attach import attentions_of, branches_of, decoder_of, disable_memory
from .branch import BEYOND, MemoryBranch

Batches = Iterable[Tensor | Mapping[str, Any]]
"""Numbers of tokens [batch, time], or mappings with ``input_ids`` and perhaps ``attention_mask``, as tokenizers make them."""


def calibrate(model: PreTrainedModel, batches: Batches) -> PreTrainedModel:
    r"""Measure the features of branches with ``features="centred"``: $\mu = \mathrm{mean}\,x$ and $\sigma = \mathrm{rms}(x - \mu)$.

    $x$ is a layer's normalised input, read with the memories off; the mean is over tokens, the root mean square over tokens and channels. Attention sinks,
    whose features would drown those of all others, are left out: tokens more than three times as far from the middling token of the first batch as that
    batch's middling distance. Once through the batches is enough, and the first should be of the same kind as the rest.

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
    tallies = _tally(model, batches, "features")
    measured = [(tally.mean(), tally.spread()) for tally in tallies]
    if not all(bool(spread > 0) for _, spread in measured):
        raise ValueError(
            f"the features of {sum(tally.count for tally in tallies)} tokens do not differ from each other. Cure: batches of more tokens."
        )
    for branch, (mean, spread) in zip(branches, measured, strict=True):
        if branch.features is not None:
            branch.features.mean.copy_(mean)
            branch.features.spread.copy_(spread)
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
    loudness = [tally.rms() for tally in _tally(model, batches, "stream")]
    for branch, rms in zip(branches, loudness, strict=True):
        _recall(branch, scale * float(rms), lags)
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
    """Sums over the tokens that lie no further than ``BEYOND`` middling distances from ``centre``; in float64, from the centre on.

    Args:
        first: The tokens [tokens, dim] of which the middling distance is taken.
        centre: [dim].
    """

    def __init__(self, first: Tensor, centre: Tensor) -> None:
        self.centre, self.reach = centre, BEYOND * _rms(first - centre).median()
        self.count, self.total, self.squares = 0, torch.zeros_like(centre), centre.new_zeros(())

    def add(self, x: Tensor) -> None:
        away = x - self.centre
        away = away[_rms(away) <= self.reach]
        self.count += len(away)
        self.total, self.squares = self.total + away.sum(0), self.squares + away.square().mean(-1).sum()

    def mean(self) -> Tensor:
        return self.centre + self.total / self.count

    def rms(self) -> Tensor:
        """The root mean square of the way from the centre."""
        return (self.squares / self.count).sqrt()

    def spread(self) -> Tensor:
        return (self.squares / self.count - (self.total / self.count).square().mean()).clamp(min=0).sqrt()


@torch.no_grad()
def _tally(model: nn.Module, batches: Batches, what: Literal["features", "stream"]) -> list[_Tally]:
    """What was seen at each branch while the base read the batches: the layer's normalised input, or the stream that it adds to."""
    decoder = decoder_of(model)
    tallies: dict[int, _Tally] = {}
    real: Tensor = torch.empty(0)

    def see(number: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        x = (args[0] if args else kwargs["hidden_states"])[real].double()
        if number not in tallies:
            tallies[number] = _Tally(x, x.median(0).values if what == "features" else torch.zeros_like(x[0]))
        tallies[number].add(x)

    def seen_by(number: int) -> Any:
        return lambda module, args, kwargs: see(number, args, kwargs)

    hooks = []
    for number, (name, attention) in enumerate(attentions_of(model).items()):
        place = attention if what == "features" else decoder.get_submodule(name.rpartition(".")[0])
        hooks.append(place.register_forward_pre_hook(seen_by(number), with_kwargs=True))
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
    if not tallies:
        raise ValueError("the batches hold no token. Cure: batches of tokens [batch, time]; note that a generator can be gone through once only.")
    return [tallies[number] for number in range(len(hooks))]


def _rms(x: Tensor) -> Tensor:
    return x.square().mean(-1).sqrt()
