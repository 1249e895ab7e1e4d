"""lm-eval's harness around models with memories, on a task and a tokenizer made here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import nn
from transformers import PreTrainedTokenizerFast

from retain.evaluation import for_lm_eval
from retain.evaluation import harness as adapter
from retain.models import RetainForCausalLM
from tests.unit.evaluation.oracle import small
from tests.unit.models.test_generate import VOCABULARY

WORDS = ["<end>", *"abcdefghijkl"]
CONTEXTS = ["a b c", "k a l b f", "d e f g h i j", "c c c c"]
CHOICES = ["e", "f g", "l"]
TASK = """
task: letters
dataset_path: json
dataset_kwargs:
  data_files: {path}/letters.jsonl
  cache_dir: {path}/cache
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
metric_list:
  - metric: acc
"""


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token=WORDS[0]))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token=WORDS[0], pad_token=WORDS[0])


def score(speaker: RetainForCausalLM, context: str, answer: str, write: bool = True) -> float:
    """The logarithm of the probability of an answer, in one call."""
    read, said = ([WORDS.index(word) for word in text.split()] for text in (context, answer))
    with torch.no_grad():
        scores = speaker(torch.tensor([read + said]), write=write).logits.log_softmax(-1)[0, len(read) - 1 : -1]
    return float(scores.gather(-1, torch.tensor(said)[:, None]).sum())


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="batch, chunk and longest of 1 at least"):
        for_lm_eval(small("mag"), tokenizer(), longest=0)
    with pytest.raises(ValueError, match=r"Identity\.forward has no argument `write`"):
        for_lm_eval(nn.Identity(), tokenizer(), write=False)


def test_without_lm_eval_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter._adapter.cache_clear()
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", None)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ImportError, match=r"pip install 'retain\[eval\]'"):
        for_lm_eval(small("mag"), tokenizer())


# ---- with lm-eval itself


@pytest.fixture(scope="module")
def part() -> Callable[[str], Any]:
    """A part of lm-eval, by its name."""
    pytest.importorskip("lm_eval", reason="needs the extra `eval`: pip install 'retain[eval]'")
    return lambda name: import_module(f"lm_eval.{name}")


def ask(part: Callable[[str], Any], model: Any, kind: str, *arguments: Any) -> Any:
    """The harness's answer to one request."""
    (answer,) = getattr(model, kind)([part("api.instance").Instance(kind, {}, arguments, 0)], disable_tqdm=True)
    return answer


@pytest.mark.parametrize("write", [True, False])
def test_a_task_of_ones_own_scores_what_the_model_says(part: Callable[[str], Any], tmp_path: Path, write: bool) -> None:
    speaker = small("mixed")
    scores = [[score(speaker, context, choice, write) for choice in CHOICES] for context in CONTEXTS]
    best = [max(range(len(CHOICES)), key=each.__getitem__) for each in scores]
    labels = [best[0], best[1], best[2], (best[3] + 1) % len(CHOICES)]  # three right, one wrong
    rows = [{"context": context, "choices": CHOICES, "label": label} for context, label in zip(CONTEXTS, labels, strict=True)]
    (tmp_path / "letters.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "letters.yaml").write_text(TASK.format(path=tmp_path))
    manager = part("tasks").TaskManager(include_path=str(tmp_path), include_defaults=False)
    adapted = for_lm_eval(speaker, tokenizer(), batch=2, chunk=3, write=write)
    found = part("evaluator").simple_evaluate(adapted, tasks=["letters"], task_manager=manager, bootstrap_iters=0)
    assert found["results"]["letters"]["acc,none"] == 0.75
    for sample in found["samples"]["letters"]:
        row = CONTEXTS.index(sample["doc"]["context"])
        assert [float(answer[0][0]) for answer in sample["resps"]] == pytest.approx(scores[row], abs=1e-5)


def test_a_long_context_is_read_whole_unless_it_may_not_be(part: Callable[[str], Any]) -> None:
    speaker = small("lmm", memory={"preset": "delta_net", "heads": 2})
    words = [WORDS[1 + int(i)] for i in torch.randint(12, (2100,), generator=torch.Generator().manual_seed(0))]
    context = " ".join(words)
    whole = score(speaker, context, "e")
    assert ask(part, for_lm_eval(speaker, tokenizer(), chunk=1000), "loglikelihood", context, " e")[0] == pytest.approx(whole, abs=1e-6)
    cut = ask(part, for_lm_eval(speaker, tokenizer(), longest=50), "loglikelihood", context, " e")[0]
    assert cut == pytest.approx(score(speaker, " ".join(words[-50:]), "e"), abs=1e-6)
    assert abs(cut - whole) > 1e-5


def test_texts_are_generated_with_and_without_writing(part: Callable[[str], Any]) -> None:
    speaker: Any = small("lmm")
    prompts = torch.randint(1, VOCABULARY, (6, 9), generator=torch.Generator().manual_seed(1))
    said: dict[bool, list[str]] = {True: [], False: []}
    for write, texts in said.items():
        adapted = for_lm_eval(speaker, tokenizer(), write=write)
        for prompt in prompts:
            context = " ".join(WORDS[i] for i in prompt.tolist())
            texts.append(ask(part, adapted, "generate_until", context, {"max_gen_toks": 8, "until": ["<end>"]}))
            expected = speaker.generate(prompt[None], max_new_tokens=8, do_sample=False, eos_token_id=0, write=write)[0, 9:]
            assert texts[-1].split() == [WORDS[i] for i in expected.tolist() if i]
    assert said[True] != said[False]
