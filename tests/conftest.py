"""How many examples the laws draw, and that a run can be repeated."""

import os

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
