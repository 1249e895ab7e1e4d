"""What stored embeddings are compared by, held against cosines in double precision."""

import pytest
import torch

from retain.text.patterns import RECENT, Patterns


def grid(rows: int, width: int, seed: int) -> torch.Tensor:
    return torch.randint(-127, 128, (rows, width), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)


def cosines(rows: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    return rows.double() @ vector.double() / rows.double().norm(dim=1) / vector.double().norm()


@pytest.mark.parametrize("width", [8, 9, 31, 256, 384])
def test_what_is_near_has_the_cosine_that_it_has(width: int) -> None:
    keys, values = grid(70, width, 0), grid(70, width, 1)
    patterns = Patterns(width)
    patterns.extend(list(range(69)), keys[:69], values[:69])
    patterns.add(69, keys[69], values[69])
    near, first = patterns.near_keys(keys[5])
    assert first == 0
    assert float(near[5]) == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(near.double(), cosines(keys, keys[5]), atol=1e-6, rtol=0)
    for size in (1e-20, 1.0, 1e6):
        answer = torch.randn(width, generator=torch.Generator().manual_seed(2)) * size
        torch.testing.assert_close(patterns.near_values(answer).double(), cosines(values, answer), atol=1e-4, rtol=0)


def test_the_answer_nothing_is_near_nothing_and_no_patterns_are_near_anything() -> None:
    patterns = Patterns(16)
    assert patterns.near_values(torch.ones(16)).shape == (0,)
    assert patterns.near_keys(grid(1, 16, 0)[0])[0].shape == (0,)
    patterns.extend([1, 2], grid(2, 16, 0), grid(2, 16, 1))
    assert patterns.near_values(torch.zeros(16)).tolist() == [0.0, 0.0]


def test_only_recent_keys_are_compared_with_and_all_values() -> None:
    patterns, keys = Patterns(8), grid(RECENT + 3, 8, 0)
    patterns.extend(list(range(RECENT + 3)), keys, keys)
    near, first = patterns.near_keys(keys[-1])
    assert first == 3
    assert len(near) == RECENT
    assert len(patterns.near_values(keys[0].float())) == RECENT + 3
    assert len(patterns.near_values(keys[0].float(), recent=True)) == RECENT
    assert float(patterns.near_values(keys[0].float())[0]) == pytest.approx(1.0, abs=1e-4)


def test_wide_embeddings_do_not_run_over() -> None:
    patterns, rows = Patterns(4096), torch.full((2, 4096), 127, dtype=torch.int8)
    rows[1] = -127
    patterns.extend([1, 2], rows, rows)
    torch.testing.assert_close(patterns.near_values(torch.full((4096,), 0.1)), torch.tensor([1.0, -1.0]))
    torch.testing.assert_close(patterns.near_keys(rows[0])[0], torch.tensor([1.0, -1.0]))
