"""A memory in your own transformer.

    python examples/your_transformer.py

Its attention sees 8 tokens. It reads pairs of a key and a value, then blanks, and is asked for each key's value when no pair is in sight any more. What one
sees: recall in samples that were never trained on, with the memory, and with the same memory told not to write, which is left to guessing.
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain import Gates, NeuralMemory, Projections, presets
from retain.tasks import MQAR, Batch


class Block(nn.Module):
    """Attention over a window, a memory of everything, and a perceptron, each added to the stream."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.attention = nn.MultiheadAttention(dim, 2, batch_first=True)
        self.memory = NeuralMemory(dim, heads=2, rule=presets.delta_net(), gates=Gates(lr=0.5), projections=Projections(start="recall"))
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, write: bool) -> Tensor:
        in_sight = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril().triu(-7)
        h = self.norms[0](x)
        x = x + self.attention(h, h, h, attn_mask=~in_sight, need_weights=False)[0]
        remembered, _ = self.memory(self.norms[1](x), write=write)
        x = x + remembered
        return x + self.mlp(self.norms[2](x))


parser = argparse.ArgumentParser(description="A memory in your own transformer.")
parser.add_argument("--steps", type=int, default=100, help="updates of the training")
args = parser.parse_args()

torch.manual_seed(0)
task = MQAR(pairs=8, vocabulary=64, length=64, gap=16)
model = nn.ModuleList([nn.Embedding(task.vocab_size, 64), Block(64), Block(64), nn.Linear(64, task.vocab_size)])
learner = torch.optim.AdamW(model.parameters(), lr=3e-3)


def answers(batch: Batch, write: bool = True) -> tuple[Tensor, Tensor]:
    """What the model says where it is asked, and what it should."""
    embed, first, second, head = model
    said = head(second(first(embed(batch.tokens[:, :-1]), write), write))
    return said[batch.asked[:, 1:]], batch.answers[batch.asked]


for step in range(args.steps):
    loss = F.cross_entropy(*answers(task.batch(range(1000 + 32 * step, 1032 + 32 * step))))
    learner.zero_grad()
    loss.backward()
    learner.step()
for name, write in (("memory writes", True), ("writes off", False)):
    with torch.no_grad():
        said, wanted = answers(task.batch(range(100)), write)
    print(f"{name}: {(said.argmax(-1) == wanted).float().mean():.3f} of values recalled (guessing: {2 / task.vocabulary:.3f})")
