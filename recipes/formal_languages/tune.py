"""The learning rate of each model on each language, by the bin beyond those that are trained on: python -m recipes.formal_languages.tune"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from retain.training.describe import described

from ..evidence import CONSOLE, keep, trained
from .run import COUNTED, HERE, LANGUAGES, MODELS, TUNED_AS, asked, run_of

RATES = (3e-3, 1e-2)
SEED = 100


def best(trials: list[dict[str, Any]]) -> float:
    """The rate with a greater share in the second bin, then in the first, then the lower loss."""
    return max(trials, key=lambda trial: (trial["shares"][1], trial["shares"][0], -trial["loss"]))["rate"]


def main() -> None:
    """Train with each rate, and write down which did best."""
    path = HERE / "tuning.json"
    results = json.loads(path.read_text()) if path.exists() else {"seed": SEED, "trials": [], "best": {}}
    begun = time.perf_counter() - results.get("seconds", 0)
    with tempfile.TemporaryDirectory() as scratch:
        for language in LANGUAGES:
            for name in [name for name in MODELS if name not in TUNED_AS]:
                for rate in RATES:
                    run = run_of(name, language, SEED, rate)
                    if any(trial["run"] == json.loads(json.dumps(described(run))) for trial in results["trials"]):
                        continue
                    place = Path(scratch) / f"{LANGUAGES.index(language)}-{name}-{rate:g}"
                    model, about = trained(run, place, f"{name}, {language}, {rate:g}")
                    rows = [row for row in asked(model, language, SEED) if row["reading"] == "model"]
                    right, of = COUNTED[language]
                    shares = [row[right] / row[of] for row in rows]
                    results["trials"].append({"model": name, "language": language, "rate": rate, "shares": shares, **about})
                    CONSOLE.print("  ", *(f"{share:.3f}" for share in shares))
                trials = [trial for trial in results["trials"] if (trial["model"], trial["language"]) == (name, language)]
                results["best"].setdefault(name, {})[language] = best(trials)
                keep(path, results, begun)


if __name__ == "__main__":
    main()
