"""What a memory's raw numbers mean: how surprising an error is among those of its stream, and how often recall of that sharpness was right."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

BINS = 20
SPAN = 128  # new texts over which what is typical is an average


class Calibration:
    """What the stream has taught about the memory's own numbers. It is part of the memory's state and follows from its history.

    *Surprise.* The error of each new text is noted before the text is written; texts that were there already, nearly word by word, are not. The mean over
    the last hundred or so is typical. An error $r$ surprises by $r / (r + \\mathrm{typical})$: 0 for none, one half for the error of a typical new text, more for
    a larger one.

    *Confidence.* Now and then the memory is asked for an earlier text by half of its key, which is a question it was never taught; and for a text it is
    just about to learn, which it cannot know. Whether the best pattern was the right one is counted by how near the answer came to it, and confidence is
    the share of right ones at that nearness, forced to rise with it.

    Examples:
        >>> c = Calibration()
        >>> for error in (0.5, 0.5, 0.4):
        ...     c.note_error(error)
        >>> round(c.surprise(c.typical), 3), c.surprise(0.0), c.surprise(0.1) < c.surprise(0.2)
        (0.5, 0.0, True)
    """

    def __init__(self) -> None:
        self.typical, self.noted = 0.0, 0
        self.asked, self.right = [0.0] * BINS, [0.0] * BINS

    def note_error(self, raw: float) -> None:
        """Take notice of a new text's error, from before it was written."""
        self.noted += 1
        self.typical += (raw - self.typical) / min(self.noted, SPAN)

    def surprise(self, raw: float) -> float:
        """The error between 0 and 1; one half while nothing has been noted."""
        if self.noted == 0:
            return 0.5
        return raw / (raw + self.typical) if raw > 0 else 0.0

    def note_recall(self, score: float, right: bool) -> None:
        """Take notice of a recall: how near the answer came to the best pattern, and whether that was the right one."""
        at = _bin(score)
        self.asked[at] += 1
        self.right[at] += right

    def confidence(self, score: float) -> float:
        """The share of recalls of this nearness that were right, by what was counted and one more that was right as often as it was near."""
        shares = [(right + (i + 0.5) / BINS) / (asked + 1) for i, (asked, right) in enumerate(zip(self.asked, self.right, strict=True))]
        return _rising(shares, [asked + 1 for asked in self.asked])[_bin(score)]

    def tensors(self) -> dict[str, Tensor]:
        """All of it, to be saved."""
        rows = {"errors": [self.typical, float(self.noted)], "asked": self.asked, "right": self.right}
        return {f"calibration/{name}": torch.tensor(row, dtype=torch.float64) for name, row in rows.items()}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Calibration:
        """The inverse of ``tensors``."""
        new = cls()
        new.typical, noted = tensors["calibration/errors"].tolist()
        new.noted, new.asked, new.right = int(noted), tensors["calibration/asked"].tolist(), tensors["calibration/right"].tolist()
        return new


def _bin(score: float) -> int:
    return min(BINS - 1, max(0, int(score * BINS)))


def _rising(shares: list[float], weights: list[float]) -> list[float]:
    """The rising sequence nearest to ``shares`` in weighted squares: neighbours that fall are pooled."""
    pools: list[list[float]] = []  # value, weight, length
    for share, weight in zip(shares, weights, strict=True):
        pools.append([share, weight, 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            value, weight, length = pools.pop()
            last = pools[-1]
            last[0] = (last[0] * last[1] + value * weight) / (last[1] + weight)
            last[1] += weight
            last[2] += length
    return [value for value, _, length in pools for _ in range(int(length))]
