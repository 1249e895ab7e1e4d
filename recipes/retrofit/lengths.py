"""How many tokens the pages of each recipe's lessons have, their questions and answers among them: the mean of 64 pages of each task.

python -m recipes.retrofit.lengths --base .venv/smollm2 --out recipes/retrofit
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from retain.tasks import AbstractPages, Page
from retain.training.retrofit.recipes import RECIPES

from ..evidence import CONSOLE, keep
from .run import EXAMS

PAGES = range(64)


def main(
    base: Annotated[str, typer.Option(help="Folder of the pretrained model.")],
    out: Annotated[Path, typer.Option(help="Folder for lengths.json.")],
) -> None:
    """Draw pages as the trainer does, and count."""
    begun, found = time.perf_counter(), dict[str, list[float]]()
    for name in EXAMS:
        run = RECIPES[name](base)
        found[name] = [sum(_mean(task, run.reading.asked) for task in lesson.tasks) / len(lesson.tasks) for lesson in run.lessons]
        CONSOLE.print(name, found[name])
    keep(out / "lengths.json", {"pages": len(PAGES), "tokens": found}, begun)


def _mean(task: AbstractPages, asked: int | None) -> float:
    return sum(_tokens(page, asked) for page in task.batch(PAGES)) / len(PAGES)


def _tokens(page: Page, asked: int | None) -> int:
    """Those of a page, and of as many of its questions as an update asks."""
    return len(page.text) + sum(len(question.prompt) + len(question.answer) for question in page.questions[:asked])


if __name__ == "__main__":
    typer.run(main)
