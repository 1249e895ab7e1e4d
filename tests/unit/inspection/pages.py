"""What a page holds, read back from its HTML, and a small model to look at."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retain.models import RetainConfig, RetainForCausalLM

ARRAY = re.compile(r'<script type="text/plain" data-type="(\w\d)" id="array-([^"]+)">([^<]*)</script>')
TITANS = {"preset": "titans", "rule": {"update_every": 16}, "heads": 2}


def arrays_in(page: str) -> dict[str, np.ndarray]:
    return {name: np.frombuffer(base64.b64decode(text), dtype=f"<{kind}") for kind, name, text in ARRAY.findall(page)}


def data_in(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def model_of(block: str | list[str] = "lmm", memory: dict[str, Any] | None = None, **others: Any) -> RetainForCausalLM:
    torch.manual_seed(0)
    layers = 1 if isinstance(block, str) else len(block)
    given: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": layers, "num_attention_heads": 2, "window": 16, "persistent_tokens": 2, **others}
    return RetainForCausalLM(RetainConfig(block=block, memory=memory or TITANS, **given)).eval()


def text_of(length: int) -> str:
    return Path(__file__).read_text(encoding="utf-8")[:length]


def bytes_of(length: int) -> Tensor:
    return torch.tensor(list(text_of(length).encode()))
