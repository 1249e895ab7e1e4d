"""What a training says of itself while it runs: lines of JSON, and whoever else is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from retain.storage import write_whole

Teller = Callable[[int, Mapping[str, float]], None]


class Metrics:
    """``metrics.jsonl`` in a folder: one line for each update that is written down, in order, none twice.

    Args:
        folder: Where the file lies.
        step: The update that the training goes on from; lines behind it are of a run that was killed, and go.
        to: Who else is told: ``"tensorboard"`` writes below the folder, ``"trackio"`` to its own place.

    Raises:
        ImportError: The package of a teller is not installed; the message names it.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     Metrics(Path(place), 0).write(1, {"loss": 0.5})
        ...     read_metrics(Path(place))
        [{'step': 1, 'loss': 0.5}]
    """

    def __init__(self, folder: Path, step: int, to: Sequence[str] = ()) -> None:
        self.path = folder / "metrics.jsonl"
        kept = [line for line in read_metrics(folder) if line["step"] <= step]
        write_whole(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode(), mode=0o644)
        self.tellers = [_teller(name, folder) for name in to]

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """A line for the update ``step``."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **numbers}) + "\n")
        for tell in self.tellers:
            tell(step, numbers)


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines that a training left; a last one that was cut short is left out.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "metrics.jsonl").write_text('{"step": 1}\\n{"st')
        ...     read_metrics(Path(folder))
        [{'step': 1}]
    """
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _teller(name: str, folder: Path) -> Teller:
    try:
        if name == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            writer = SummaryWriter(str(folder / "tensorboard"))

            def to_board(step: int, numbers: Mapping[str, float]) -> None:
                for key, value in numbers.items():
                    writer.add_scalar(key, value, step)
                writer.flush()

            return to_board
        import trackio  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(f"telling {name} needs its package ({error}). Cure: pip install {name}") from None
    trackio.init(project=folder.resolve().name, name="training", resume="allow")  # a training that goes on, goes on there
    return lambda step, numbers: trackio.log(dict(numbers), step=step)
