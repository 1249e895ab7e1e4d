"""The parts of README.md and docs/ that are measured: python -m recipes.pages

Each part is made of committed data alone, the results in ``recipes/`` and ``benchmarks/``, and stands between ``<!-- name -->`` and
``<!-- end of name -->``. Tables of recipes are taken from their reports, so nothing is computed in two ways.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retain.benchmark import report as benchmark
from retain.evaluation.result import table

from . import demo_told
from .evidence import Tables, rehearsal, text_put

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"
RESULTS = ROOT / "benchmarks" / "results.json"
Lines = list[list[str]]
Row = Callable[[list[str]], bool]


@dataclass(frozen=True)
class Shown:
    """What the page of evidence shows of a recipe's table: some columns, by name, and some rows.

    Args:
        recipe: The folder.
        mark: Which of its tables.
        columns: In the order to be shown; none are all.
        row: Whether a row is shown.
    """

    recipe: str
    mark: str = "table"
    columns: tuple[str, ...] = ()
    row: Row = lambda _: True


EVIDENCE = (
    Shown(
        "recall_by_distance",
        columns=("model", "reading", "8 (0.125x)", "128 (2x)", "1,024 (16x)", "4,096 (64x)"),
        row=lambda row: row[1] != "window cut",
    ),
    Shown("needles", "model"),
    Shown("needles", "controls"),
    Shown("code_by_position", row=lambda row: row[1] in ("model", "memory reset")),
    Shown("memories", "mqar", ("memory", "16 pairs", "32 pairs", "64 pairs", "96 pairs", "writes off")),
    Shown("memories", "paper", ("memory", "all needles, ours", "paper, per cent")),
    Shown("components", "components", ("variant", "all 8k", "writes off", "against full", "paper, perplexity")),
    Shown("chunks", columns=("memory", "chunk", "bits a byte", "read, tokens/s", "trained, tokens/s")),
    Shown("outliers"),
    Shown("forgetting", columns=("held by", "gate", "newest value", "other keys")),
    Shown("hope_parts", "parts", ("variant", "all 4,096", "against full", "writes off", "paper, perplexity")),
    Shown("formal_languages", "parity, whole words", ("model", "2-24", "25-64", "65-128", "129-256", "paper")),
    Shown("formal_languages", "even, whole words", ("model", "2-24", "25-64", "65-128", "129-256", "paper")),
    Shown("formal_languages", "counts, whole words", ("model", "2-24", "25-64", "65-128", "129-256", "paper")),
    Shown("two_languages", "languages", ("block", "levels", "parameters", "A, after A", "A, after B", "A, after B, C, D")),
    Shown("class_incremental", "digits, knows most", ("variant", "at the end, all classes", "forgotten", "newest task", "in random order")),
    Shown("stacking"),
    Shown("optimizers", "language", ("optimizer", "rate", "held out, bits a byte", "against AdamW", "step, ms")),
    Shown("optimizers", "digits", ("optimizer", "rate", "held out, right", "against AdamW", "step, ms")),
    Shown("retrofit", "table", ("trained on", "asked", "base, full context", "memory", "writes off", "memory of another document")),
    Shown("retrofit", "preservation"),
    Shown("text_memory", "verses end"),
)


class Found:
    """What the reports and the benchmark say.

    Args:
        tables: The reports' tables, by page and mark.
        results: The benchmark's results.
    """

    def __init__(self, tables: Tables, results: dict[str, Any]) -> None:
        self.tables, self.results = tables, results

    def lines(self, recipe: str, mark: str = "table") -> Lines:
        """A table of a recipe's page, its head first."""
        return self.tables[RECIPES / recipe / "README.md", mark]

    def cell(self, recipe: str, mark: str, row: Sequence[str], column: str) -> str:
        """One cell, by the words that its row begins with.

        Raises:
            ValueError: The table does not have it.
        """
        head, *rows = self.lines(recipe, mark)
        found = [each for each in rows if each[: len(row)] == list(row)]
        if len(found) != 1 or column not in head:
            raise ValueError(
                f"recipes/{recipe}, table '{mark}': {len(found)} rows begin with {list(row)}, and its columns are {head}; got '{column}'."
            )
        return found[0][head.index(column)]

    def mean(self, recipe: str, mark: str, row: Sequence[str], column: str) -> str:
        """A cell without its spread."""
        return self.cell(recipe, mark, row, column).split(" (")[0]


def found() -> Found:
    """Ask every report for its tables, and read the benchmark's results."""
    with rehearsal() as tables:
        for path in sorted(RECIPES.glob("*/report.py")):
            importlib.import_module(f"recipes.{path.parent.name}.report").main()
    return Found(tables, json.loads(RESULTS.read_text()))


def shown(all_: Found, part: Shown) -> str:
    """A part of a recipe's table, in Markdown."""
    head, *rows = all_.lines(part.recipe, part.mark)
    places = [head.index(column) for column in part.columns or head]
    return table([head[i] for i in places], [[row[i] for i in places] for row in rows if part.row(row)])


def speed(all_: Found) -> str:
    """What the benchmark found against its peer, and where."""
    rows = [row for row in all_.results["rows"] if len(row["setting"]) == 1 and row["agree"]]
    head = ["setting", "phase", "ours, tokens/s", "peer, tokens/s", "times faster", "share of its peak memory"]
    figures = [[benchmark.number(row["ours"]), benchmark.number(row["peer"]), benchmark.number(row["ratio"])] for row in rows]
    lines = [[row["setting"], row["phase"], *each, f"1/{benchmark.number(1 / row['peak_ratio'])}"] for row, each in zip(rows, figures, strict=True)]
    settings = {row["setting"]: row["what"] for row in rows}
    machine = all_.results["machine"]
    said = f"{machine['cores']} cores ({machine['processor']}), float32, batch 1, medians of {all_.results['repeats']} rounds, {all_.results['date']}"
    return f"{table(head, lines)}\n\n" + "; ".join(f"{name}: {what}" for name, what in settings.items()) + f". {said}."


def what_it_does(all_: Found) -> str:
    """One line for each kind of evidence."""
    mean, cell = all_.mean, all_.cell
    far, late = "1,024 (16x)", "8,192 to 16,384"
    recalled = ", ".join(mean("recall_by_distance", "table", (block, "model"), far) for block in ("MAG", "MAC", "LMM"))
    needles = ", ".join(cell("needles", "model", (case,), "1M") for case in ("passkey", "number", "word"))
    still, one = (float(cell("stacking", "table", (levels,), "all")) for levels in ("still", "one level"))
    languages = {
        levels: mean("two_languages", "languages", ("attention", levels), "A, after B")
        for levels in ("16, 32, 64", "16", "none", "16, as large as three")
    }
    rows = [
        ["five digits in 1,048,576 bytes of code, no attention", *demo_told.needle(RECIPES / "demo", 1 << 20), "demo"],
        [
            "a passkey, a number, a word among lookalikes in 1,048,576 bytes",
            needles,
            f"memory reset before the question: {cell('needles', 'controls', ('memory reset',), '1M')} of all cases",
            "needles",
        ],
        [
            "eight pairs, 16 attention windows ago: MAG, MAC, LMM",
            recalled,
            f"sliding window alone: {mean('recall_by_distance', 'table', ('sliding window', 'model'), far)}",
            "recall_by_distance",
        ],
        [
            "bits a byte of unseen source code beyond 8 kB: MAG",
            mean("code_by_position", "table", ("MAG", "model"), late),
            f"sliding window alone: {mean('code_by_position', 'table', ('sliding window', 'model'), late)}",
            "code_by_position",
        ],
        [
            "31 pairs of words, SmolLM2-135M, attention cache cut off",
            mean("retrofit", "table", ("words", "words-31"), "memory"),
            f"writes off: {mean('retrofit', 'table', ('words', 'words-31'), 'writes off')}",
            "retrofit",
        ],
        [
            "the right text among five, 20,000 texts read: weights of one size",
            mean("text_memory", "verses end", ("memory, dim 512",), "right one among five"),
            f"search over all embeddings: {mean('text_memory', 'verses end', ('search over all',), 'right one among five')}",
            "text_memory",
        ],
        [
            "a lexicon read once, after another one: three levels",
            languages["16, 32, 64"],
            f"one level {languages['16']}, none {languages['none']}, one as large as three {languages['16, as large as three']}",
            "two_languages",
        ],
        ["bits a token of three files, SmolLM2's MLPs learning as they read", f"{one:.3f}", f"standing still: {still:.3f}", "stacking"],
    ]
    return table(["asked", "found", "beside it", "where"], [[*row[:3], f"[{row[3]}](recipes/{row[3]}/README.md)"] for row in rows])


def limits(all_: Found) -> str:
    """What falls short, with the figure that says so."""
    mean, cell = all_.mean, all_.cell
    words, verses = ("retrofit", "table"), ("text_memory", "verses end")
    rows = [
        [
            "eight pairs behind 100,000 tokens of English, in a frozen model",
            mean(*words, ("lasting", "words-followed-100k"), "memory"),
            f"{mean(*words, ('lasting', 'words-followed-16k'), 'memory')} behind 16,000",
            "retrofit",
        ],
        [
            "two hops in Magic's wording of Hash-Hop",
            mean(*words, ("hashes", "hash-hop-2"), "memory"),
            f"{mean(*words, ('hashes', 'hash-hop-bare-2'), 'memory')} in a bare wording",
            "retrofit",
        ],
        [
            "hashes of sixteen letters",
            mean(*words, ("hashes", "hash-hop-1-16"), "memory"),
            f"{mean(*words, ('hashes', 'hash-hop-1'), 'memory')} of four letters",
            "retrofit",
        ],
        [
            "finding the right text among five, 20,000 read",
            mean(*verses, ("memory, dim 512",), "right one among five"),
            f"{mean(*verses, ('search over all',), 'right one among five')} by plain search over all embeddings",
            "text_memory",
        ],
        [
            "telling an unseen text from the oldest 100 read, 20,000 read (0.5 is a guess)",
            mean(*verses, ("memory, dim 512",), "unseen over oldest 100"),
            f"{mean(*verses, ('memory, dim 512',), 'unseen over newest 100')} from the newest 100",
            "text_memory",
        ],
        [
            "a word among 16 lines whose mark has one wrong letter",
            cell("needles", "harder", ("word",), "16"),
            f"{cell('needles', 'harder', ('word',), 'held-out code')} without them",
            "needles",
        ],
        [
            "words as needles at 1k, six memories of one size: the best",
            max(mean("memories", "needle", (name, "word"), "1k") for name in ("Moneta", "Yaad", "Memora", "Titans", "TTT-MLP", "DeltaNet")),
            "MIRAS reports 85.2 to 92.4 per cent with models of 1.3 billion parameters",
            "memories",
        ],
        [
            "bits a byte that a memory of depth 4 has more than one of depth 2",
            mean("components", "components", ("depth 4",), "against full"),
            "in Titans deeper is better, after far longer training",
            "components",
        ],
        [
            "letters of parity right at 129 to 256, Hope trained up to 24",
            mean("formal_languages", "parity", ("Hope",), "129-256"),
            f"{mean('formal_languages', 'parity', ('DeltaNet, up to 2',), '129-256')} a delta rule with rates up to 2",
            "formal_languages",
        ],
        [
            "a first language after a second: three levels",
            mean("two_languages", "languages", ("attention", "16, 32, 64"), "A, after B"),
            f"{mean('two_languages', 'languages', ('attention', '16, as large as three'), 'A, after B')} one level with as many weights",
            "two_languages",
        ],
        [
            "ten classes at the end of a stream: three frequencies",
            mean("class_incremental", "digits, knows most", ("3 frequencies",), "at the end, all classes"),
            f"{mean('class_incremental', 'digits, knows most', ('one block',), 'at the end, all classes')} one block",
            "class_incremental",
        ],
        [
            "bits a byte of held-out code: M3",
            mean("optimizers", "language", ("M3",), "held out, bits a byte"),
            f"{mean('optimizers', 'language', ('Muon',), 'held out, bits a byte')} Muon",
            "optimizers",
        ],
    ]
    return table(["asked", "found", "beside it", "where"], [[*row[:3], f"[{row[3]}](../recipes/{row[3]}/README.md)"] for row in rows])


def missed(all_: Found) -> str:
    """Speeds against the peer that fall short of what was set out for."""
    rows = [row for row in all_.results["rows"] if row.get("reached") is False]
    lines = [[row["setting"], row["phase"], benchmark.number(row["ratio"]), benchmark.number(row["target"])] for row in rows]
    return table(["setting", "phase", "times the peer's speed", "set out for"], lines)


def performance(all_: Found) -> str:
    """The benchmark's page, without its title, with its figures where they are."""
    return benchmark.readme(all_.results).split("\n", 2)[2].strip().replace("](", "](../benchmarks/")


def parts(all_: Found) -> dict[tuple[Path, str], str]:
    """Every generated part, by page and mark."""
    docs = ROOT / "docs"
    made = {
        (ROOT / "README.md", "what it does"): what_it_does(all_),
        (ROOT / "README.md", "speed"): speed(all_),
        (docs / "performance.md", "benchmark"): performance(all_),
        (docs / "performance.md", "chunks"): shown(
            all_, Shown("chunks", columns=("memory", "chunk", "bits a byte", "trained, tokens/s"), row=lambda row: row[0] == "Titans")
        ),
        (docs / "what-a-memory-is.md", "first look"): shown(all_, Shown("first_look", row=lambda row: row[0] != "MLP")),
        (docs / "limits.md", "limits"): limits(all_),
        (docs / "limits.md", "speed"): missed(all_),
        (docs / "evidence.md", "demo"): demo_told.lengths(RECIPES / "demo"),
        (docs / "evidence.md", "demo, code"): demo_told.code(RECIPES / "demo"),
    }
    return made | {(docs / "evidence.md", f"{part.recipe}, {part.mark}"): shown(all_, part) for part in EVIDENCE}


def main() -> None:
    """Write them."""
    for (page, name), text in parts(found()).items():
        text_put(page, text, name)


if __name__ == "__main__":
    main()
