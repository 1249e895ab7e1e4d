"""The demonstration from end to end: each stage is done once, recorded, and skipped when the run goes on."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from . import corpus
from .corpus import Book
from .figures import draw_code, draw_needle
from .folder import RunFolder
from .haystack import ask, gate_trace
from .machine import machine, return_freed_memory
from .model import ByteModel, ByteModelConfig
from .needle import DIGITS, MARK, chaff, hide, lesson
from .plan import Plan
from .reading import Lessons, read
from .training import Pause, Schedule, Trained, restore, train


@runtime_checkable
class Teller(Protocol):
    """Where a run tells how far it is. The library itself prints nothing."""

    def bar(self, title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """A stage of ``total`` parts; what is handed out is told how many more are done."""
        ...

    def say(self, line: str) -> None:
        """A finished stage, in a sentence."""
        ...


@dataclass(frozen=True)
class Demo:
    """One run.

    Args:
        plan: What to do.
        folder: Where its results, models and figures go.
        teller: Where it tells how far it is.
        pause: A wish to stop.
        root: The standard library to read; the interpreter's own.
        command: What was typed; it is recorded with the numbers.
    """

    plan: Plan
    folder: RunFolder
    teller: Teller
    pause: Pause
    root: Path
    command: str = ""

    def run(self) -> dict[str, Any]:
        """Do what is not done yet, write ``demo.json`` and the figures, and return all numbers.

        Raises:
            Paused: A stop was asked for; running again goes on.
        """
        self._once("machine", machine)
        trained, held_out = corpus.split(self.root, self.plan.seed)
        self._once("corpus", lambda: _describe(trained, held_out))
        self._needle(trained, held_out)
        self._code(trained, corpus.longest_package(self.root))
        return self._write()

    # ---- a needle in a haystack

    def _needle(self, trained: Book, held_out: Book) -> None:
        model = self._model(self.plan.needle.model)
        self._train_needle(model, trained)
        for length, count in self.plan.needle.asked:
            self._once(f"needle/{length}", lambda length=length, count=count: self._ask(model, held_out, length, count))
            self.teller.say(_needle_line(self.folder.result(f"needle/{length}")))
        self._once("needle/gate", lambda: gate_trace(model, hide(held_out, self.plan.needle.in_full, self._dice("gate")), around=18))

    def _train_needle(self, model: ByteModel, trained: Book) -> None:
        plan, seed = self.plan.needle, self.plan.seed

        def loss_of_step(step: int) -> Tensor:
            dice = random.Random(f"{seed} needle {step}")
            length = dice.choice(plan.lengths(step))
            text = lesson(trained, length, plan.batch // length, dice)
            hidden, _, cost = model(text[:, :-1])
            answer = F.cross_entropy(model.logits(hidden[:, -DIGITS:]).flatten(0, 1), text[:, -DIGITS:].flatten())
            if not plan.cost_share(step):
                return answer
            shut = model.gates_ajar(chaff(trained, 512, plan.batch // 128, dice), plan.margin)
            return answer + plan.cost_share(step) * (plan.write_cost * cost + plan.chaff_cost * shut)

        self._train("needle", "Learning to find a needle (at most 512 bytes)", model, loss_of_step, Schedule(steps=plan.steps))

    def _ask(self, model: ByteModel, held_out: Book, length: int, count: int) -> dict[str, Any]:
        plan = self.plan.needle
        haystacks = [hide(held_out, length, self._dice(f"haystack {length} {i}")) for i in range(count)]
        last = None if length <= plan.in_full else plan.call
        with self.teller.bar(f"{count} haystacks of {length:,} bytes", length * count + (last or length) * count) as advance:
            return_freed_memory()
            writing = ask(model, haystacks, plan.call, self.pause, advance)
            silent = ask(model, haystacks, plan.call, self.pause, advance, write=False, last=last)
        return {"length": length, "writes_on": writing.report(), "writes_off": silent.report(), "guess": _guess(count)}

    # ---- reading code

    def _code(self, trained: Book, book: Book) -> None:
        plan = self.plan.code
        text = book.text[: plan.bytes]
        for name, write in (("code", True), ("code-control", False)):
            model = self._model(plan.model)
            lessons = Lessons(model, trained, self.plan.seed, rows=plan.rows, write=write)
            title = "Learning to read code" if write else "The same without a memory that learns"
            self._train(name, title, model, lessons, Schedule(steps=plan.steps, lr=plan.lr, gate_lr=plan.lr, group=lessons.carried))
            for mode in (True, False) if write else (False,):
                stage = f"{name}/{'writes_on' if mode else 'writes_off'}"
                self._once(stage, lambda model=model, mode=mode: self._read(model, book, text, mode))
        self.teller.say(_code_line(self.folder))

    def _read(self, model: ByteModel, book: Book, text: Tensor, write: bool) -> dict[str, Any]:
        title = f"Reading {', '.join(book.names)} ({len(text):,} bytes), writes {'on' if write else 'off'}"
        with self.teller.bar(title, len(text) - 1) as advance:
            report = read(model, text, self.plan.code.call, self.pause, advance, write).report(self.plan.code.bins)
        return {"package": list(book.names), **report}

    # ---- stages

    def _once(self, stage: str, work: Callable[[], Any]) -> None:
        if self.folder.result(stage) is None:
            self.pause.check()
            self.folder.finish(stage, work())

    def _train(self, name: str, title: str, model: ByteModel, loss_of_step: Callable[[int], Tensor], schedule: Schedule) -> None:
        if self.folder.result(f"{name}/train") is not None:
            restore(model, self.folder, name)
            return
        with self.teller.bar(title, schedule.steps) as advance:
            done: Trained = train(model, loss_of_step, schedule, self.folder, name, self.pause, lambda loss: advance(1))
        parameters = sum(p.numel() for p in model.parameters())
        self.folder.finish(f"{name}/train", {**asdict(done), "steps": schedule.steps, "parameters": parameters})
        self.teller.say(f"{title}: {parameters:,} parameters, {schedule.steps} updates, {done.seconds:.0f} s, loss {done.losses[-1]:.4f}.")

    def _model(self, config: ByteModelConfig) -> ByteModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.plan.seed)
            return ByteModel(config)

    def _dice(self, purpose: str) -> random.Random:
        return random.Random(f"{self.plan.seed} {purpose}")

    def _write(self) -> dict[str, Any]:
        results = {"command": self.command, "options": self.plan.options(), **self.folder.results()}
        self.folder.write("demo.json", json.dumps(results, indent=1).encode())
        self.folder.write("needle.png", draw_needle(results))
        self.folder.write("code.png", draw_code(results))
        return results


def _describe(trained: Book, held_out: Book) -> dict[str, Any]:
    mark = MARK.strip().encode()
    return {
        "trained_bytes": len(trained.text),
        "trained_packages": len(trained.names),
        "held_out_bytes": len(held_out.text),
        "held_out_packages": list(held_out.names),
        "mark": MARK,
        "mark_in_trained": trained.count(mark),
        "mark_in_held_out": held_out.count(mark),
    }


def _guess(count: int) -> dict[str, Any]:
    return {
        "exact": 10.0**-DIGITS,
        "digits_right": 0.1,
        "expected_right": count * 10.0**-DIGITS,
        "arithmetic": f"{DIGITS} digits drawn evenly and independently of 10: (1/10)^{DIGITS} for all of them, 1/10 for each; times {count} needles",
    }


def _needle_line(report: dict[str, Any]) -> str:
    on, off = report["writes_on"], report["writes_off"]
    memory = "" if on["resident"] is None else f", process {on['resident'][1] / 1e6:.0f} MB"
    return (
        f"{report['length']:>9,} bytes: {on['right']} of {on['asked']} needles, writes off {off['right']} of {off['asked']}, guessing "
        f"{report['guess']['exact']:.0e}; {on['bytes_per_second'] / 1e3:.0f} kB/s, state {on['state_bytes'] / 1e3:.0f} kB a stream{memory}."
    )


def _code_line(folder: RunFolder) -> str:
    on, off, control = (folder.result(stage)["bits_per_byte"] for stage in ("code/writes_on", "code/writes_off", "code-control/writes_off"))
    return f"Reading code: {on:.3f} bits per byte; {off:.3f} with writes off; {control:.3f} for a model trained and read with writes off."
