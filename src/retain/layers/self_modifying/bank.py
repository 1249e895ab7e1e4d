"""Memories of one structure side by side, read and rewritten together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from retain.core.shapes import Params
from retain.memory.structure import Matrix, ResidualMLP
from retain.numerics import pulled_back, twice_differentiable
from retain.numerics.rank_one import Erasing, Stretch

from .rule import NUMBERS

Weights = Mapping[str, Tensor]
"""The weights of several memories of N heads of rows: ``inner`` [N, memories, width, hidden], unless they are matrices, and in two groups, those that answer with
``numbers`` and those that answer with ``vectors``, what comes behind it."""


@dataclass(frozen=True)
class Bank:
    """How memories lie side by side: those that answer with numbers first, each group in the order of their names.

    Args:
        structure: That of each.
        names: Of the memories, in the order of the rule's ``NAMES``.
    """

    structure: Matrix | ResidualMLP
    names: tuple[str, ...]

    @property
    def groups(self) -> dict[str, tuple[int, int]]:
        """Where each group that is not empty begins and ends."""
        border = sum(name in NUMBERS for name in self.names)
        spans = {"numbers": (0, border), "vectors": (border, len(self.names))}
        return {group: span for group, span in spans.items() if span[0] < span[1]}

    @property
    def _layers(self) -> dict[str, tuple[int, int, str]]:
        """Of each tensor of weights, the memories that it is of, and what they call it."""
        if isinstance(self.structure, Matrix):
            return {group: (*span, self.structure.weight) for group, span in self.groups.items()}
        return {"inner": (0, len(self.names), "w0"), **{group: (*span, "w1") for group, span in self.groups.items()}}

    def gather(self, params: Params) -> dict[str, Tensor]:
        """The weights side by side, from those of each memory by name [batch, heads, ...]."""
        return {
            layer: torch.stack([params[f"{name}_{weight}"].flatten(0, 1) for name in self.names[first:last]], dim=1)
            for layer, (first, last, weight) in self._layers.items()
        }

    def scatter(self, weights: Weights, heads: int) -> dict[str, Tensor]:
        """The inverse of ``gather``."""
        return {
            f"{name}_{weight}": weights[layer][:, i].unflatten(0, (-1, heads))
            for layer, (first, last, weight) in self._layers.items()
            for i, name in enumerate(self.names[first:last])
        }

    def alone(self, name: str, weights: Weights) -> dict[str, Tensor]:
        """The weights of one memory, as its structure calls them [N, ...]."""
        i = self.names.index(name)
        return {weight: weights[layer][:, i - first] for layer, (first, last, weight) in self._layers.items() if first <= i < last}

    def named(self, answers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The answers of memories by their names [N, n, 1 or width]."""
        spans = self.groups
        return {self.names[spans[group][0] + i]: said for group, many in answers.items() for i, said in enumerate(many.unbind(1))}

    def where(self, taken: Tensor, yes: Weights, no: Weights) -> dict[str, Tensor]:
        """For each memory ``yes`` where the mask [N, memories] holds and ``no`` elsewhere."""
        return {layer: torch.where(taken[:, first:last, None, None], yes[layer], no[layer]) for layer, (first, last, _) in self._layers.items()}

    def read(self, weights: Weights, x: Tensor, stop: int) -> tuple[Tensor | None, Tensor, dict[str, Tensor]]:
        """What the first ``stop`` memories answer to tokens [N, n, width]: by group [N, memories, n, 1 or width]; and before it their hidden units, before
        and behind the activation.
        """
        x, z = x.unsqueeze(1), None
        hidden = x
        if isinstance(self.structure, ResidualMLP):
            z = x @ weights["inner"][:, :stop]
            hidden = twice_differentiable(self.structure.activation)(z)
        answers = {}
        for group, (first, last) in self.groups.items():
            if first < stop:
                units = hidden if z is None else hidden[:, first : min(last, stop)]
                answers[group] = units @ weights[group][:, : stop - first]
        if z is not None and "vectors" in answers:
            answers["vectors"] = answers["vectors"] + x
        return z, hidden, answers

    def errors(self, weights: Weights, z: Tensor | None, errors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gradients at what each tensor of weights puts out, from those at the answers to the same tokens."""
        if z is None or isinstance(self.structure, Matrix):
            return dict(errors)
        back = [e @ weights[group].transpose(-1, -2) for group, e in errors.items()]
        return {"inner": pulled_back(self.structure.activation)(torch.cat(back, dim=1), z), **errors}

    def write(
        self, moved: Sequence[Weights], inputs: tuple[Tensor, Tensor], errors: Mapping[str, Tensor], steps: Stretch, erasing: Erasing | None
    ) -> list[Weights]:
        """Weights, and moments if there are any, behind steps with these keys and hidden units, and errors of each tensor of weights."""
        after: list[dict[str, Tensor]] = [{} for _ in moved]
        for layer, (first, last, _) in self._layers.items():
            weight, moment = moved[0][layer], moved[1][layer] if moved[1:] else None
            reads_keys = layer == "inner" or isinstance(self.structure, Matrix)
            if reads_keys and erasing is not None:
                new = erasing.add(weight, moment, errors[layer])
            else:
                units = inputs[0].unsqueeze(1) if reads_keys else inputs[1][:, first:last]
                new = steps.add(weight, moment, units, errors[layer])
            after[0][layer] = new[0]
            if new[1] is not None:
                after[1][layer] = new[1]
        return [*after]
