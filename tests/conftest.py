"""How many examples the laws draw, that a run can be repeated, and where the one trained language model is that tests read."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

# The same draws every time, so that a failure is a failure for everybody. RETAIN_LAWS=search draws afresh, and more, and looks for the smallest failure.
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "steady",
    max_examples=3,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=_SLOW,
    report_multiple_bugs=False,
)
settings.register_profile("search", max_examples=50, database=None, deadline=None, suppress_health_check=_SLOW, report_multiple_bugs=False)
settings.load_profile(os.environ.get("RETAIN_LAWS", "steady"))

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct. `make setup` has fetched it, and `make test` names it; then a missing one is a failure."""
    named = os.environ.get("RETAIN_SMOLLM2")
    folder = Path(named).resolve() if named else Path(__file__).parents[1] / ".venv" / "smollm2"
    if not (folder / "model.safetensors").is_file():
        if named:
            pytest.fail(f"RETAIN_SMOLLM2 names {folder}, where SmolLM2 is not. Cure: retain retrofit fetch-smollm2 --out {folder}")
        pytest.skip("needs SmolLM2-135M-Instruct: `make setup` fetches it into .venv/smollm2, and RETAIN_SMOLLM2 names another folder of it")
    return folder
