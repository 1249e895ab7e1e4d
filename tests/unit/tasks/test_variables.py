"""Dependency tracing: running the program gives the answer, and the Python one is run by Python."""

import ast
import random
import re
from collections import Counter
from dataclasses import replace

import pytest

from retain.tasks import BytePairs, Bytes, VariableTracing, programs
from retain.tasks.programs import Syntax
from tests.unit.tasks.asking import PAIRS, check_even, check_solved, hits, parts_of

SIZES = [
    VariableTracing(hops=1, length=200),
    VariableTracing(hops=4, reassigned=5, length=900),
    VariableTracing(hops=20, arithmetic=True, length=2500),
    VariableTracing(hops=3, reassigned=2, arithmetic=True, length=700, codec=PAIRS),
]


def solve_plain(context: str) -> str:
    """Assign line by line; the variable of the question is the last word."""
    *program, question = context.splitlines()
    values: dict[str, int] = {}
    for line in program:
        name, expression = line.removeprefix("VAR ").split(" = ")
        source, sign, change = ([*expression.removeprefix("VAR ").split(), "+", "0"])[:3]
        values[name] = (int(source) if source.isdigit() else values[source]) + int(sign + change)
    return str(values[re.findall(r"VAR (\w+)\?", question)[0]])


def solve_python(context: str) -> str:
    """Run it."""
    said: list[int] = []
    exec(context, {"print": said.append})
    return str(said[0])


SOLVERS = {"plain": solve_plain, "python": solve_python}


@pytest.mark.parametrize("syntax", ["plain", "python"])
@pytest.mark.parametrize("task", SIZES, ids=lambda task: f"{task.hops} hops")
def test_running_the_program_answers(task: VariableTracing, syntax: Syntax) -> None:
    task = replace(task, syntax=syntax, length=task.length + 200)
    check_solved(task, SOLVERS[syntax], range(20))


@pytest.mark.parametrize("syntax", ["plain", "python"])
@pytest.mark.parametrize("task", SIZES, ids=lambda task: f"{task.hops} hops")
def test_the_length_is_used_but_for_less_than_an_assignment(task: VariableTracing, syntax: Syntax) -> None:
    task = replace(task, syntax=syntax, length=task.length + 137)
    for seed in range(10):
        sample = task.sample(seed)
        assert task.length - len("VAR ABCDE = VAR ABCDE + 100\n") < len(sample.tokens) <= task.length
        assert bool(sample.asked[-1])


def test_the_whole_sample_is_python_and_tells_its_answer_in_a_comment() -> None:
    task = VariableTracing(hops=3, reassigned=2, arithmetic=True, syntax="python", length=800)
    for seed in range(10):
        text = Bytes().decode(task.sample(seed).tokens.tolist())
        targets = [node.targets[0] for node in ast.parse(text).body if isinstance(node, ast.Assign)]
        assert len(targets) == len(text.splitlines()) - 1
        assert solve_python(text) == text.split("# ")[1]


def test_no_other_chain_leads_to_the_answer_or_shares_a_variable() -> None:
    task = VariableTracing(hops=2, reassigned=2, length=1500)
    for seed in range(20):
        context, answer = parts_of(task.sample(seed))
        sources = dict(re.findall(r"VAR (\w+) = VAR (\w+)", context))
        name = re.findall(r"VAR (\w+)\?", context)[0]
        own = [name, sources[name], sources[sources[name]]]
        assert len(set(sources.values()) & set(own)) == 2
        assert context.count(f" = {answer}\n") == 1
        assert int(task.sample(seed).facts["chains"]) > 5
        assert len(re.findall(rf"VAR (?:{'|'.join(own)}) = \d+", context)) == 1 + task.reassigned


def test_where_names_and_numbers_are_few_names_still_differ_and_numbers_of_the_asked_chain_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def few(dice: random.Random, taken: set[str], _: int = 0) -> str:
        return dice.choice(sorted({str(number) for number in range(10_000, 10_030)} - taken))

    monkeypatch.setattr(programs, "LETTERS", 2)
    monkeypatch.setattr(programs, "_number", few)
    for seed in range(10):
        context, answer = parts_of(VariableTracing(hops=1, reassigned=9, syntax="python", length=3000).sample(seed))
        assert solve_python(context) == answer
        assigned = re.findall(r"^(\w+) = (\w+)$", context, re.MULTILINE)
        counts = Counter(name for name, _ in assigned)
        asked = re.findall(r"print\((\w+)\)", context)[0]
        own = {asked, *(source for name, source in assigned if name == asked and not source.isdigit())}
        assert len(own) == 2
        assert sum(counts[name] for name in own) == 2 + 9
        assert {count for name, count in counts.items() if name not in own} == {1}
        numbers = Counter(source for _, source in assigned)
        assert {numbers[source] for name, source in assigned if name in own and source.isdigit()} == {1}


def test_chains_lie_between_each_other() -> None:
    task = VariableTracing(hops=2, length=1500)
    line = len("VAR ABCDE = VAR ABCDE\n")
    gaps, last = [], []
    for seed in range(200):
        facts = task.sample(seed).facts
        gaps.append(int(facts["distance_1"]) - int(facts["distance_2"]) > line)
        last.append(int(4 * int(facts["distance_2"]) / 1500) == 0)
    assert sum(gaps) > 150
    assert 70 < sum(last) < 150


def test_order_counts_where_variables_are_assigned_again() -> None:
    def first_wins(context: str) -> str:
        values = dict(reversed(re.findall(r"VAR (\w+) = (?:VAR )?(\w+)", context)))
        here = re.findall(r"VAR (\w+)\?", context)[0]
        while not here.isdigit():
            here = values[here]
        return here

    def last_wins(context: str) -> str:
        values = dict(re.findall(r"VAR (\w+) = (?:VAR )?(\w+)", context))
        here = re.findall(r"VAR (\w+)\?", context)[0]
        while not here.isdigit():
            here = values[here]
        return here

    once, again = VariableTracing(hops=2, length=600), VariableTracing(hops=2, reassigned=4, length=600)
    for task, least, most in ((once, 1.0, 1.0), (again, 0.0, 0.4)):
        texts = [parts_of(task.sample(seed)) for seed in range(60)]
        for solve in (first_wins, last_wins):
            assert least <= hits(solve, texts) <= most


@pytest.mark.parametrize("codec", [Bytes(), PAIRS], ids=["bytes", "pairs"])
def test_distances_lead_back_to_the_assignments(codec: Bytes | BytePairs) -> None:
    task = VariableTracing(hops=3, reassigned=2, syntax="python", length=500, codec=codec)
    for seed in range(10):
        sample = task.sample(seed)
        first = int(sample.asked.int().argmax())

        def behind(fact: str) -> str:
            return codec.decode(sample.tokens[first - int(sample.facts[fact]) : first].tolist())  # noqa: B023

        lines = [behind(f"distance_{hop}").splitlines()[0] for hop in range(4)]
        context, answer = parts_of(sample, codec)
        assert [line.split(" = ")[1] for line in lines] == [answer.strip(), *(line.split(" = ")[0] for line in lines[:-1])]
        assert f"print({lines[-1].split(' = ')[0]})" in context
        assert behind("distance").strip().startswith(answer.strip())


def test_values_are_even_so_that_a_guess_scores_chance() -> None:
    for arithmetic in (False, True):
        task = VariableTracing(hops=2, arithmetic=arithmetic, length=200)
        answers = [parts_of(task.sample(seed))[1] for seed in range(300)]
        assert len(set(answers)) > 290
        assert {len(answer) for answer in answers} == {5}
        check_even((answer[-1] for answer in answers), 10)
        check_even((answer[1] for answer in answers), 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hops": 0}, "hops of 1 to 20 .* got hops=0"),
        ({"hops": 21}, "got hops=21"),
        ({"reassigned": -1}, "reassigned=-1"),
        ({"length": 60}, r"length=60 has no room .* Cure: length=\d+"),
    ],
)
def test_what_cannot_be_is_refused_with_the_cure(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(VariableTracing(), **change)


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="'plain' or 'python', got 'lisp'"):
        VariableTracing(syntax="lisp")  # pyright: ignore[reportArgumentType]
