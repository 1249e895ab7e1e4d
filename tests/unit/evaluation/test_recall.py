"""Recall: oracles prove the scorer, and real models that streaming, batches and generation agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from retain.blocks import BlockState
from retain.evaluation import AbstractCut, MemoryReset, Recall, Share, WindowCut, WritesOff, recall
from retain.tasks import MQAR, AbstractTask, Needle, Parity, Sample
from tests.unit.evaluation.oracle import Dictation, Oracle, right, small, token, wrong
from tests.unit.models.test_generate import KINDS, VOCABULARY, model, tokens

SMALL = MQAR(pairs=3, vocabulary=12, length=26, gap=3, filler="noise", power=1.0)
FORGETFUL = (WritesOff(),)


def counts(result: Recall, reading: str = "model") -> tuple[Share, Share, Share]:
    row = result.overall(reading)
    return row.teacher, row.exact, row.whole


# ---- the scorer


def test_an_oracle_that_is_always_right_scores_all() -> None:
    result = recall(Oracle(right), Dictation(), range(4), controls=FORGETFUL)
    assert counts(result) == (Share(12, 12), Share(4, 4), Share(4, 4))


def test_an_oracle_that_is_never_right_scores_nothing() -> None:
    result = recall(Oracle(wrong), Dictation(), range(4), controls=FORGETFUL)
    assert counts(result) == (Share(0, 12), Share(0, 4), Share(0, 4))


def test_one_wrong_token_spoils_its_answer_and_no_other() -> None:
    def slips(seed: int, place: int, write: bool) -> int:
        return 99 if (seed, place) == (2, 6) else token(seed, place)

    result = recall(Oracle(slips), Dictation(asked=(1, 2, 5, 6, 7)), range(4), controls=FORGETFUL)
    assert counts(result) == (Share(19, 20), Share(7, 8), Share(3, 4))
    spoilt = [outcome.seed for outcome in result.outcomes if outcome.reading == "model" and not outcome.whole.right]
    assert spoilt == [2]


def test_scattered_tokens_and_labels_are_an_answer_each() -> None:
    def odd(seed: int, place: int, write: bool) -> int:
        return token(seed, place) if place % 2 else 99

    scattered = recall(Oracle(odd), Dictation(asked=(1, 3, 4, 7)), [0], controls=FORGETFUL)
    assert counts(scattered) == (Share(3, 4), Share(2, 3), Share(0, 1))
    labelled = recall(Oracle(lambda *x: odd(*x) + 1, 101), Dictation(asked=(4, 5, 6, 7), labelled=True), [0], controls=FORGETFUL)
    assert counts(labelled) == (Share(2, 4), Share(2, 4), Share(0, 1))


def test_a_control_that_forbids_writing_reaches_the_model_from_the_first_token_on() -> None:
    def remembers(seed: int, place: int, write: bool) -> int:
        return token(seed, place) if write else 99

    result = recall(Oracle(remembers), Dictation(asked=(1, 2)), range(3), controls=FORGETFUL)
    assert counts(result) == (Share(6, 6), Share(3, 3), Share(3, 3))
    assert counts(result, "writes off") == (Share(0, 6), Share(0, 3), Share(0, 3))


@dataclass(frozen=True)
class Echo(AbstractTask):
    """Noise, and then what a model goes on to say by itself. In samples of odd seeds one token of it is another.

    Args:
        said: What the model says, sample by sample.
    """

    said: tuple[tuple[int, ...], ...]
    context: int = 9

    @property
    def vocab_size(self) -> int:
        return VOCABULARY

    def prompt(self, seed: int) -> torch.Tensor:
        return torch.randint(1, VOCABULARY, (self.context,), generator=torch.Generator().manual_seed(seed))

    def sample(self, seed: int) -> Sample:
        answer = torch.tensor(self.said[seed])
        if seed % 2:
            answer[seed % len(answer)] = (answer[seed % len(answer)] + 1) % VOCABULARY
        tokens = torch.cat([self.prompt(seed), answer])
        return Sample(tokens, torch.arange(len(tokens)) >= self.context, {"seed": seed})


@pytest.mark.parametrize("kind", ["mac", "lmm"])
def test_exact_is_what_generation_gives(kind: str) -> None:
    speaker: Any = small(kind)
    blank = Echo(said=())
    said = [speaker.generate(blank.prompt(seed)[None], max_new_tokens=4, do_sample=False)[0, blank.context :] for seed in range(4)]
    result = recall(speaker, Echo(said=tuple(tuple(row.tolist()) for row in said)), range(4), controls=(), chunk=4)
    assert [outcome.answers.right for outcome in result.outcomes] == [1, 0, 1, 0]
    assert counts(result)[0].right < counts(result)[0].asked


# ---- streaming


@dataclass(frozen=True)
class Foretold(AbstractTask):
    """Noise, of which what a model foretells is asked, as labels, from a place on that differs from sample to sample.

    Args:
        labels: What it foretells, sample by sample.
    """

    labels: tuple[tuple[int, ...], ...]
    length: int = 12

    @property
    def vocab_size(self) -> int:
        return VOCABULARY

    def tokens(self, seed: int) -> torch.Tensor:
        return tokens(1, self.length, seed)[0]

    def sample(self, seed: int) -> Sample:
        question = 5 + seed
        asked = torch.arange(self.length) > question
        return Sample(self.tokens(seed), asked, {"question": question}, torch.tensor((0, *self.labels[seed])))


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_and_batches_change_nothing(kind: str) -> None:
    speaker, blank = small(kind), Foretold(labels=())
    said = [speaker(blank.tokens(seed)[None]).logits[0, :-1].argmax(-1).tolist() for seed in range(2)]
    task = Foretold(labels=tuple(map(tuple, said)))
    ways = ((99, 1), (5, 2), (1, 2)) if kind == "mac" else ((99, 1), (5, 2))
    results = [recall(speaker, task, range(2), chunk=chunk, batch=batch) for chunk, batch in ways]
    assert results[0].overall().teacher == Share(11, 11), "one call and a stream of calls foretell the same"
    assert any(results[0].overall(control).teacher.right < 11 for control in results[0].controls)
    for result in results[1:]:
        assert sorted(result.outcomes, key=repr) == sorted(results[0].outcomes, key=repr)


def test_only_a_chunk_is_read_at_once_and_only_what_is_asked_is_scored() -> None:
    oracle, task = Oracle(right), Dictation(asked=(40, 41, 99), length=101)
    recall(oracle, task, [3], controls=FORGETFUL, chunk=16)
    assert max(read for read, _ in oracle.calls) == 16
    assert sum(scored for _, scored in oracle.calls) == 2 * 3
    assert sum(read for read, _ in oracle.calls) == 2 * 99, "what lies behind the last asked token need not be read"


def test_samples_of_all_lengths_are_read_side_by_side() -> None:
    speaker, task = small("mag", vocab_size=3), Parity(shortest=2, longest=9, asks="last")
    alone, together = recall(speaker, task, range(4)), recall(speaker, task, range(4), batch=4)
    assert sorted(alone.outcomes, key=repr) == sorted(together.outcomes, key=repr)


def test_a_model_of_transformers_is_scored_without_controls() -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **sizes)).double().eval()
    batch = SMALL.batch(range(6))
    hits = (llama(batch.tokens).logits[:, :-1].argmax(-1) == batch.answers[:, 1:]) & batch.asked[:, 1:]
    result = recall(llama, SMALL, range(6), controls=(), chunk=5, batch=3)
    assert result.overall().teacher == Share(int(hits.sum()), 18)
    with pytest.raises(ValueError, match=r"LlamaForCausalLM\.forward has no argument `write`"):
        recall(llama, SMALL, range(2))
    with pytest.raises(ValueError, match="LlamaForCausalLM keeps none"):
        recall(llama, SMALL, range(2), controls=(WindowCut(),))


def test_the_model_is_left_as_it_was() -> None:
    speaker = model("mag").train()
    speaker.model.layers[0].eval()
    recall(speaker, SMALL, [0])
    assert speaker.training
    assert not speaker.model.layers[0].training
    assert speaker.model.layers[1].training
    assert all(weight.grad is None for weight in speaker.parameters())


# ---- where controls cut


@dataclass(frozen=True)
class Note(AbstractCut):
    """Takes nothing away; notes where each row stood when it was asked to."""

    clocks: list[list[int]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return "note"

    def cut(self, state: BlockState, start: BlockState) -> BlockState:
        self.clocks.append((state.memories["memory"].clock - start.memories["memory"].clock).tolist())
        return state


def noted(task: AbstractTask, seeds: Sequence[int], **others: Any) -> list[list[int]]:
    note = Note()
    recall(small("lmm", vocab_size=100), task, seeds, controls=(note,), **others)
    return note.clocks


def test_a_cut_comes_before_the_token_that_the_first_answer_is_foretold_from() -> None:
    assert noted(Dictation(asked=(5, 6)), [1]) == [[4]]
    assert noted(Dictation(asked=(5, 6)), [1], chunk=3) == [[4]]
    assert noted(Dictation(asked=(3, 6)), [1], chunk=2) == [[2]]


def test_a_cut_comes_where_the_question_begins_if_the_sample_or_the_caller_says_so() -> None:
    assert noted(Dictation(asked=(5, 6), facts={"question": 2}), [1]) == [[2]]
    assert noted(Dictation(asked=(5, 6)), [1], question=lambda sample: 3) == [[3]]


def test_each_row_of_a_batch_is_cut_at_its_own_question() -> None:
    questions = [SMALL.sample(seed).asked.int().argmax().item() - 1 for seed in range(4)]
    assert len(set(questions)) > 1
    assert sorted({row for clocks in noted(SMALL, range(4), batch=4) for row in clocks}) == sorted(set(questions))


@pytest.mark.parametrize(("question", "message"), [(5, "from 0 to 4"), (-1, "from 0 to 4"), ("here", "got 'here'")])
def test_a_question_that_begins_too_late_is_refused(question: int | str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recall(Oracle(right), Dictation(asked=(5, 6), facts={"question": question}), [1])


def test_a_sample_that_asks_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="asks nothing"):
        recall(Oracle(right), Dictation(asked=()), [1])


def test_a_control_that_cuts_does_not_apply_where_the_question_comes_first() -> None:
    result = recall(small("mag"), Parity(shortest=4, longest=6), range(3), batch=3)
    asked = {name: result.overall(name).teacher.asked for name in ("model", "writes off", "memory reset", "window cut")}
    assert asked["model"] == asked["writes off"] > 0
    assert asked["memory reset"] == asked["window cut"] == 0
    assert "| window cut | 0 | does not apply |" in result.markdown()


# ---- the table


def test_groups_stand_in_the_table_with_their_counts() -> None:
    def far(seed: int, place: int, write: bool) -> int:
        return token(seed, place) if seed < 3 and write else 99

    result = recall(Oracle(far), Dictation(asked=(5,), chance=0.25), [0, 1, 2, 50, 60], controls=FORGETFUL, title="Dictation")
    assert result.by == "length"
    lines = result.markdown(by="seed", edges=(0, 10, 100)).splitlines()
    assert lines[0] == "**Dictation**"
    assert lines[2] == "| seed | reading | count | teacher | exact | whole |"
    assert lines[4].startswith("| 0 to 10 | model | 3 | 1.00 (0.44 - 1.00) |")
    assert lines[5].startswith("|  | writes off | 3 | 0.00 (0.00 - 0.56) |")
    assert lines[6].startswith("| 10 to 100 | model | 2 | 0.00 (0.00 - 0.66) |")
    assert lines[8] == "| any | chance |  | 0.25 |  |  |"
    with pytest.raises(ValueError, match="has no fact 'hops'; it has seed, length"):
        result.rows(by="hops")
    with pytest.raises(ValueError, match="no reading 'window cut'"):
        result.overall("window cut")


def test_a_table_without_controls_says_so_or_is_not_printed() -> None:
    result = recall(Oracle(right), Dictation(), [0], controls=())
    assert result.title == "Dictation (without controls)"
    assert str(result).startswith("**Dictation (without controls)**")
    fields = {"controls": (), "outcomes": result.outcomes, "by": None, "chance": None, "about": {}}
    with pytest.raises(ValueError, match="nothing shows that the answers come through a memory"):
        str(Recall(title="Dictation", **fields))
    with pytest.raises(ValueError, match="lacks the rows of 'writes off'"):
        str(Recall(title="Dictation", **{**fields, "controls": ("writes off",)}))


def test_a_result_survives_json() -> None:
    result = recall(small("mag"), SMALL, range(2))
    again = Recall.from_json(result.to_json())
    assert again == result
    assert str(again) == str(result)
    assert again.about["model"] == "RetainForCausalLM"


def test_results_of_other_seeds_can_be_joined() -> None:
    first, second = (recall(Oracle(right), Dictation(length=length), seeds, controls=FORGETFUL) for length, seeds in ((8, [0, 1]), (9, [2])))
    joined = replace(first, outcomes=first.outcomes + second.outcomes)
    assert [(row.group, row.samples) for row in joined.rows() if row.reading == "model"] == [("8", 2), ("9", 1)]
    with pytest.raises(ValueError, match="'model' has several of seed 0"):
        replace(first, outcomes=first.outcomes + first.outcomes)


def test_progress_goes_up_to_one() -> None:
    told: list[tuple[float, str]] = []
    recall(Oracle(right), Dictation(), range(3), controls=(), chunk=2, progress=lambda share, note: told.append((share, note)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) > 6
    assert told[0][1] == "sample 1 of 3"


def test_an_evaluation_with_its_own_control_and_a_text_task() -> None:
    class Both(AbstractCut):
        @property
        def name(self) -> str:
            return "both"

        def cut(self, state: BlockState, start: BlockState) -> BlockState:
            return WindowCut().cut(MemoryReset().cut(state, start), start)

    result = recall(small("mag", vocab_size=256), Needle(length=90), [0], controls=(WritesOff(), Both()))
    assert [row.reading for row in result.rows()] == ["model", "writes off", "both"]
    assert result.by == "distance"


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"seeds": []}, "at least one"),
        ({"seeds": [1, 1]}, "each once"),
        ({"chunk": 0}, "chunk >= 1"),
        ({"batch": 0}, "batch >= 1"),
        ({"controls": (WritesOff(), WritesOff())}, "more than one 'writes off'"),
        ({"task": Needle(length=90)}, "the task has 256 tokens and the model knows 13"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(others: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"task": SMALL, "seeds": [0], **others}
    speaker = small("lmm")
    with pytest.raises(ValueError, match=message):
        recall(speaker, **given)


def test_a_control_may_not_be_called_model() -> None:
    class Model(WritesOff):
        @property
        def name(self) -> str:
            return "model"

    with pytest.raises(ValueError, match="more than one 'model'"):
        recall(Oracle(right), Dictation(), [0], controls=(Model(),))
