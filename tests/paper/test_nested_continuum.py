"""Nested Learning section 7.1: continuum memories against equations 70 to 74, written out token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retain.layers import ContinuumMemory
from tests.continuum_streams import (
    DIM,
    Weights,
    block_by_hand,
    chain_by_hand,
    gains,
    learnt_by_hand,
    levels_of,
    memory_of,
    regression,
    squared,
    starts,
    stream_learning,
    weights_in,
)
from tests.tolerances import GRADIENTS, assert_near

TIME = 21


def _cost_of(target: Tensor, row: int) -> Callable[[Tensor, int], Tensor]:
    return lambda y, t: (y - target[row, t]).square().sum() / 2


def _sum_of_answers(memory: ContinuumMemory, weights: Sequence[Weights], x: Tensor) -> Tensor:
    """Equation 74 with a weighted sum; each block's answer is what it adds to its token."""
    assert memory.mix is not None
    each = zip(memory.mix, memory.levels, weights, gains(memory), strict=True)
    return x + sum((share * (block_by_hand(level, own, gain, x) - x) for share, level, own, gain in each), torch.zeros_like(x))


def _agree_with_the_formula(memory: ContinuumMemory, read: Callable[..., Tensor] = chain_by_hand) -> None:
    """Outputs, weights in the end, and the gradient of an outer loss behind all updates in every slow weight."""
    x, target = regression()
    y, state = stream_learning(memory, x, squared(target))
    slow = list(memory.parameters())
    found = torch.autograd.grad((y * target).sum(), slow, retain_graph=True)
    outputs = []
    for row in range(len(x)):
        output, weights = learnt_by_hand(memory, x[row], _cost_of(target, row), read)
        outputs.append(output)
        for i, level in enumerate(memory.levels):
            for name, w in weights_in(state, i, row).items() if level.every else ():
                assert_near(w, weights[i][name], what=f"{name} of level {i}, row {row}")
    by_hand = torch.stack(outputs)
    assert_near(y, by_hand, what="outputs")
    for gradient, right in zip(found, torch.autograd.grad((by_hand * target).sum(), slow), strict=True):
        assert_near(gradient, right, GRADIENTS, what="outer gradient")


# ---- 70


@pytest.mark.equation("nested_learning", 70)
@pytest.mark.parametrize("around", ["residual", "nothing"])
def test_levels_read_one_after_the_other(around: str) -> None:
    """y_t = MLP_3(MLP_2(MLP_1(x_t))), the first level of the list first, whether there is a state or none."""
    memory, (x, _) = memory_of(*levels_of(2, 4, 0, around=around)), regression()
    by_hand = torch.stack([torch.stack([chain_by_hand(memory, starts(memory), token) for token in row]) for row in x])
    assert_near(memory(x), by_hand)
    assert_near(memory(x, memory.start(2)), by_hand)


@pytest.mark.equation("nested_learning", 70)
def test_a_frequency_is_how_often_a_level_changes_while_the_slowest_does_once() -> None:
    memory, (x, target) = memory_of(*levels_of(4, 8, 16)), regression(rows=1, time=16)
    assert memory.frequencies == (4, 2, 1)
    assert memory_of(*levels_of(4, 8, 0)).frequencies == (2, 1, 0)
    changes, state = [0, 0, 0], memory.start(1)
    for t in range(16):
        _, after = stream_learning(memory, x, squared(target), state, t, t + 1)
        for i in range(3):
            changes[i] += not torch.equal(after[f"{i}/weights/down"], state[f"{i}/weights/down"])
        state = after
    assert tuple(changes) == memory.frequencies


# ---- 71


@pytest.mark.equation("nested_learning", 71)
@pytest.mark.parametrize("periods", [(1,), (4,), (2, 6), (6, 2), (3, 0, 6)])
def test_a_level_steps_along_the_errors_of_its_own_period(periods: tuple[int, ...]) -> None:
    """theta_{i+1} = theta_i - 1[i = 0 mod C] sum over t = i-C+1..i of eta grad L_t, with a last period that stays unfinished."""
    _agree_with_the_formula(memory_of(*levels_of(*periods)))


@pytest.mark.equation("nested_learning", 71)
@pytest.mark.parametrize(("time", "every"), [(12, 3), (14, 4), (5, 8)])
def test_n_tokens_make_n_by_c_updates_and_their_sum(time: int, every: int) -> None:
    """The whole change is that of the complete chunks, each with C terms; the rest of the stream waits in the sums."""
    memory, (x, target) = memory_of(*levels_of(every)), regression(rows=1, time=time)
    state, change, terms, updates = memory.start(1), torch.zeros(DIM, 7).double(), [], 0
    for t in range(time):
        weights = starts(memory)[0] if updates == 0 else weights_in(state, 0, 0)
        cost = _cost_of(target, 0)(chain_by_hand(memory, [weights], x[0, t]), t)
        terms.append(torch.autograd.grad(cost, weights["down"], retain_graph=True)[0])
        _, state = stream_learning(memory, x, squared(target), state, t, t + 1)
        if len(terms) == every:
            change, terms, updates = change - 0.05 * torch.stack(terms).sum(0), [], updates + 1
    assert updates == time // every
    assert_near(state["0/weights/down"][0] - memory.get_parameter("blocks.0.down.weight"), change)
    assert_near(state["0/sums/down"][0], torch.stack(terms).sum(0) if terms else torch.zeros_like(change))


@pytest.mark.equation("nested_learning", 71)
@pytest.mark.parametrize("every", [1, 5])
def test_a_level_of_plain_descent_is_sgd_on_the_loss_of_its_chunks(every: int) -> None:
    """``torch.optim.SGD`` on an ordinary module, a step for each chunk's summed loss; C = 1 is SGD token by token."""
    memory, (x, target) = memory_of(*levels_of(every), seed=3), regression(rows=1, time=20)
    y, _ = stream_learning(memory, x, squared(target))
    module = memory_of(*levels_of(0), seed=3)
    sgd = torch.optim.SGD([w for name, w in module.named_parameters() if "norm" not in name], lr=0.05)
    for t in range(0, 20, every):
        sgd.zero_grad()
        answer = module(x[:, t : t + every])
        assert_near(y[:, t : t + every], answer)
        ((answer - target[:, t : t + every]).square().sum() / 2).backward()
        sgd.step()


@pytest.mark.equation("nested_learning", 71)
def test_without_a_rate_nothing_changes() -> None:
    memory, (x, target) = memory_of(*levels_of(2, 4, lr=0.0)), regression()
    y, state = stream_learning(memory, x, squared(target))
    assert_near(y, memory(x))
    for i, slow in enumerate(starts(memory)):
        assert all(torch.equal(w, slow[name]) for name, w in weights_in(state, i, 0).items())


@pytest.mark.equation("nested_learning", 71)
def test_a_language_model_learns_from_the_tokens_it_predicts() -> None:
    """The loss is that of the task: half a layer between an embedding and a head, against a loop over ordinary modules."""
    torch.manual_seed(0)
    memory, embedding = memory_of(*levels_of(4, 8, lr=0.1)), nn.Embedding(11, DIM).double()
    words = torch.randint(11, (2, 17))
    x = embedding(words[:, :-1])

    def surprise(y: Tensor, where: slice) -> Tensor:
        return F.cross_entropy((y @ embedding.weight.T).flatten(0, 1), words[:, 1:][:, where].flatten(), reduction="sum")

    y, _ = stream_learning(memory, x, surprise)
    for row in range(2):
        by_hand, _ = learnt_by_hand(memory, x[row], lambda y, t, row=row: -(embedding.weight @ y).log_softmax(-1)[words[row, t + 1]])
        assert_near(y[row], by_hand)


# ---- 72


@pytest.mark.equation("nested_learning", 72)
@pytest.mark.parametrize("periods", [(2, 6), (1, 2, 8), (8, 2), (3, 6, 0)])
def test_nested_levels_start_anew_when_a_slower_one_has_stepped(periods: tuple[int, ...]) -> None:
    _agree_with_the_formula(memory_of(*levels_of(*periods), form="nested"))


@pytest.mark.equation("nested_learning", 72)
def test_a_level_of_4_under_one_of_16_starts_anew_at_every_fourth_of_its_steps() -> None:
    memory, (x, target) = memory_of(*levels_of(4, 16), form="nested"), regression(rows=1, time=48)
    state, starts_anew = memory.start(1), []
    for t in range(48):
        _, state = stream_learning(memory, x, squared(target), state, t, t + 1)
        if t % 4 == 3:
            back = [torch.equal(w, starts(memory)[0][name]) for name, w in weights_in(state, 0, 0).items()]
            assert all(back) == any(back)
            starts_anew.append(all(back))
    assert starts_anew == [False, False, False, True] * 3


@pytest.mark.equation("nested_learning", 72)
def test_the_start_of_a_level_is_learnt_as_what_serves_all_contexts_best() -> None:
    """theta_0 = argmin E over contexts T of l(theta(T)): its slope is the mean over contexts of the slope through the steps of each alone."""
    memory, (x, target) = memory_of(*levels_of(2, 6), form="nested"), regression(rows=1, time=18)
    with torch.no_grad():
        for weight in memory.blocks[1].parameters():
            weight.zero_()  # a slower level that says nothing, and so learns nothing: down and the two others are 0
    y, _ = stream_learning(memory, x, squared(target))
    slow = list(starts(memory)[0].values())
    found = torch.autograd.grad(squared(target)(y, slice(0, 18)) / 3, slow)
    alone = memory_of(*levels_of(2))
    alone.blocks[0].load_state_dict(memory.blocks[0].state_dict())
    contexts = []
    for t in (0, 6, 12):
        output, _ = learnt_by_hand(alone, x[0, t : t + 6], _cost_of(target[:, t : t + 6], 0))
        contexts.append((output - target[0, t : t + 6]).square().sum() / 2)
    right = torch.autograd.grad(torch.stack(contexts).mean(), list(starts(alone)[0].values()))
    for gradient, expected in zip(found, right, strict=True):
        assert_near(gradient, expected, GRADIENTS)


# ---- 73


@pytest.mark.equation("nested_learning", 73)
def test_an_outer_loss_reaches_the_start_of_every_level() -> None:
    """Gradients flow through all updates, and in a sequence of levels every start has its share."""
    memory, (x, target) = memory_of(*levels_of(2, 4, 8)), regression()
    y, _ = stream_learning(memory, x, squared(target))
    gradients = torch.autograd.grad(squared(target)(y[:, -3:], slice(TIME - 3, TIME)), list(memory.parameters()))
    assert all(bool(gradient.abs().max() > 1e-6) for gradient in gradients)
    _agree_with_the_formula(memory)


@pytest.mark.equation("nested_learning", 73)
def test_with_no_rate_the_outer_gradient_is_that_of_plain_layers() -> None:
    memory, (x, target) = memory_of(*levels_of(2, 4, lr=0.0)), regression()
    y, _ = stream_learning(memory, x, squared(target))
    found = torch.autograd.grad(squared(target)(y, slice(0, TIME)), list(memory.parameters()))
    right = torch.autograd.grad(squared(target)(memory(x), slice(0, TIME)), list(memory.parameters()))
    for gradient, expected in zip(found, right, strict=True):
        assert_near(gradient, expected, GRADIENTS)


@pytest.mark.equation("nested_learning", 73)
def test_what_a_slow_level_has_learnt_changes_all_that_is_read_behind_it() -> None:
    memory, (x, target) = memory_of(*levels_of(2, 8)), regression(rows=1, time=24)
    _, state = stream_learning(memory, x, squared(target), last=8)
    y, _ = stream_learning(memory, x, squared(target), state, first=8)
    other, _ = stream_learning(memory, x, squared(target), {**state, "1/weights/down": state["1/weights/down"] * 1.1}, first=8)
    assert bool(((y - other).abs().amax(-1) > 1e-6).all())


# ---- 74


@pytest.mark.equation("nested_learning", 74)
@pytest.mark.parametrize("periods", [(2, 6), (3, 0)])
def test_independent_levels_are_added_up_by_learnt_weights(periods: tuple[int, ...]) -> None:
    memory = memory_of(*levels_of(*periods), form="independent")
    with torch.no_grad():
        memory.get_parameter("mix").copy_(torch.tensor([0.7, -0.4]))
    _agree_with_the_formula(memory, _sum_of_answers)


@pytest.mark.equation("nested_learning", 74)
@pytest.mark.parametrize("around", ["residual", "nothing"])
def test_one_weight_is_one_level_and_equal_weights_are_the_mean(around: str) -> None:
    memory, (x, _) = memory_of(*levels_of(2, 4, around=around), form="independent"), regression()
    each = []
    for i, one_hot in enumerate(([1.0, 0.0], [0.0, 1.0])):
        single = memory_of(*levels_of(2, around=around))
        single.blocks[0].load_state_dict(memory.blocks[i].state_dict())
        each.append(single(x))
        mixed = memory_of(*levels_of(2, 4, around=around), form="independent")
        with torch.no_grad():
            mixed.get_parameter("mix").copy_(torch.tensor(one_hot))
        assert_near(mixed(x), each[-1])
    assert_near(memory(x), (each[0] + each[1]) / 2)
