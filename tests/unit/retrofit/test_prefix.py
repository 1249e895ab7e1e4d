"""What is kept of frozen layers is what they say, and depends on the row alone."""

from __future__ import annotations

import torch

from retain.retrofit import FrozenPrefix, disable_memory

from .models import opened, words


def test_what_is_kept_of_a_row_is_the_same_to_the_last_bit_in_any_company() -> None:
    model = opened(dtype=torch.float32, layers=(2,))
    rows = [words(1, length, seed=length)[0] for length in (3, 16, 17, 40, 5, 300)]
    together = FrozenPrefix(model)(rows)
    backwards = FrozenPrefix(model)([*rows[::-1], *words(9, 12)])
    for i, row in enumerate(rows):
        alone = FrozenPrefix(model)([row])[0]
        assert torch.equal(together[i, : len(row)], alone)
        assert torch.equal(backwards[len(rows) - 1 - i, : len(row)], alone)


def test_it_is_what_the_layers_below_the_first_memory_say() -> None:
    model = opened(layers=(2,))
    row = words(1, 13)[0]
    with torch.no_grad(), disable_memory(model):
        stream = model(row[None], output_hidden_states=True).hidden_states[2]
    prefix = FrozenPrefix(model)
    assert torch.allclose(prefix([row]), stream, rtol=0, atol=1e-12)
    assert len(prefix) == 1
    prefix.forget([row])
    assert len(prefix) == 0
