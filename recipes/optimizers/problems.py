"""What the optimizers are set to: a language model on source code, and a small vision transformer on scanned digits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from retain.models import RetainConfig, RetainForCausalLM
from retain.tasks import Book, Corpus

Part = Literal["tuning", "test"]
"""What is held out: for the choice of rates, and for what is reported."""


class AbstractProblem(ABC):
    """A model to begin with, batches to learn from, and what is held out; all drawn by a seed, and so the same for every optimizer."""

    updates: int
    warm_up: int

    @abstractmethod
    def model(self) -> nn.Module:
        """A model at its start, of torch's own random numbers."""

    @abstractmethod
    def batch(self, dice: torch.Generator) -> tuple[Tensor, Tensor]:
        """Inputs to learn from, and their answers."""

    @abstractmethod
    def held_out(self, part: Part) -> tuple[Tensor, Tensor]:
        """Inputs that are never learnt from, and their answers."""

    @abstractmethod
    def scores(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """What the model holds of each answer that there might be [..., answers]."""

    def loss(self, model: nn.Module, inputs: Tensor, answers: Tensor) -> Tensor:
        """Mean cross-entropy, in nats."""
        return F.cross_entropy(self.scores(model, inputs).flatten(0, -2), answers.flatten())

    @torch.no_grad()
    def graded(self, model: nn.Module, part: Part) -> tuple[float, float]:
        """Mean cross-entropy of what is held out, in nats, and the share of right answers."""
        inputs, answers = self.held_out(part)
        scores = torch.cat([self.scores(model, some) for some in inputs.split(32)]).flatten(0, -2)
        return float(F.cross_entropy(scores, answers.flatten())), float((scores.argmax(-1) == answers.flatten()).double().mean())


class Language(AbstractProblem):
    """Bytes of Python's standard library, by a small transformer with sliding windows. What is held out are whole packages."""

    updates, warm_up, rows, length, texts = 250, 25, 8, 256, 128
    packages = {"tuning": ("json", "logging", "unittest", "xml"), "test": ("asyncio", "email", "http")}  # noqa: RUF012

    @cached_property
    def books(self) -> dict[str, Book]:
        rest, test = Corpus.code().split(held_out=self.packages["test"])
        train, tuning = rest.split(held_out=self.packages["tuning"])
        return {"train": train.book(), "tuning": tuning.book(), "test": test.book()}

    def model(self) -> nn.Module:
        shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "window": 64, "persistent_tokens": 0}
        return RetainForCausalLM(RetainConfig(vocab_size=256, block="sliding_window", **shape))

    def batch(self, dice: torch.Generator) -> tuple[Tensor, Tensor]:
        book = self.books["train"]
        return self._windows(book, torch.randint(len(book), (self.rows,), generator=dice).tolist())

    def held_out(self, part: Part) -> tuple[Tensor, Tensor]:
        book = self.books[part]
        return self._windows(book, [len(book) * i // self.texts for i in range(self.texts)])

    def scores(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return model(inputs, use_cache=False).logits

    def _windows(self, book: Book, places: list[int]) -> tuple[Tensor, Tensor]:
        tokens = torch.stack([book.window(place, self.length + 1).long() for place in places])
        return tokens[:, :-1], tokens[:, 1:]


class Digits(AbstractProblem):
    """The 1,797 digits of 8 x 8 pixels that come with scikit-learn, by a vision transformer that reads patches of 2 x 2."""

    updates, warm_up, rows, apart = 250, 25, 64, 360

    @cached_property
    def images(self) -> dict[str, tuple[Tensor, Tensor]]:
        found = load_digits()
        pixels = torch.tensor(found.images, dtype=torch.float32).unfold(1, 2, 2).unfold(2, 2, 2).reshape(-1, 16, 4) / 8 - 1
        answers = torch.tensor(found.target)
        order = torch.randperm(len(answers), generator=torch.Generator().manual_seed(0))
        test, tuning, train = order[: self.apart], order[self.apart : 2 * self.apart], order[2 * self.apart :]
        return {name: (pixels[these], answers[these]) for name, these in (("train", train), ("tuning", tuning), ("test", test))}

    def model(self) -> nn.Module:
        return VisionTransformer(patches=16, pixels=4, width=64, layers=2)

    def batch(self, dice: torch.Generator) -> tuple[Tensor, Tensor]:
        images, answers = self.images["train"]
        drawn = torch.randint(len(answers), (self.rows,), generator=dice)
        return images[drawn], answers[drawn]

    def held_out(self, part: Part) -> tuple[Tensor, Tensor]:
        return self.images[part]

    def scores(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return model(inputs)


class VisionTransformer(nn.Module):
    """Patches [batch, patches, pixels] to scores of ten classes."""

    def __init__(self, patches: int, pixels: int, width: int, layers: int) -> None:
        super().__init__()
        self.embed, self.places = nn.Linear(pixels, width), nn.Parameter(0.02 * torch.randn(patches, width))
        self.layers = nn.ModuleList(Layer(width) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.places
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x).mean(1))


class Layer(nn.Module):
    """Attention with four heads and a perceptron, each behind a norm and beside the stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before_attention, self.before_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.before_attention(x)
        q, k, v = (to(y).unflatten(-1, (4, -1)).transpose(1, 2) for to in (self.to_q, self.to_k, self.to_v))
        x = x + self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.perceptron(self.before_perceptron(x))


PROBLEMS: dict[str, AbstractProblem] = {"language": Language(), "digits": Digits()}
