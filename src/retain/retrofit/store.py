"""The trained memories of a pretrained model on disk: what they are and their weights, without the model's own."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from retain.core.errors import DamagedStateFile, ForeignState, NotAStateFile, UnsupportedStateVersion
from retain.storage import Format, sealed, unsealed, write_together

from .attach import attentions_of, decoder_of, planned, put, session_of
from .branch import MemoryBranch
from .config import MemoryConfig

CONFIG, WEIGHTS = "memory_config.json", "memory_model.safetensors"
FORMAT = Format(name="retain.memory-model", version="1", noun="memory of a model", writer="retain.retrofit.save")
VOLATILE = (
    *("_name_or_path", "architectures", "transformers_version", "dtype", "torch_dtype", "use_cache", "quantization_config", "problem_type"),
    *("pad_token_id", "bos_token_id", "eos_token_id", "id2label", "label2id", "return_dict", "output_attentions", "output_hidden_states"),
)
"""What a base model's configuration may say differently without being that of another model."""


def save(model: nn.Module, folder: str | os.PathLike[str], *, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write a model's memories into a folder: ``memory_config.json`` and ``memory_model.safetensors``.

    Both appear whole or neither does. The model's own weights are not saved.

    Args:
        model: A model with memories, wrapped or not, as by PEFT.
        folder: Where to; it is made if need be.
        weights: Those that are written, by the names of ``memory_weights``, if not the model's own; as when these lie in shards.

    Raises:
        ValueError: The model has no memories, they are not described by plain data, or something wraps their modules.
        OSError: The files cannot be written. What stood there still stands there.

    Examples:
        >>> import tempfile
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import attach, detach
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(attach(base, MemoryConfig(memory={"heads": 2}, strength=0.5)), folder)
        ...     model = load(detach(base), folder)
        >>> model.model.layers[0].self_attn.memory.strength.item()
        0.5
    """
    decoder: Any = decoder_of(model)
    config, branches = session_of(model).config, _branches(model)
    fresh = [MemoryBranch(decoder.config.hidden_size, config, number).state_dict().keys() for number in range(len(branches))]
    if [branch.state_dict().keys() for branch in branches.values()] != fresh:
        raise ValueError(
            "the modules of the memories are not as attach made them: something wraps them. Cure: adapt the base by names that spare 'memory'."
        )
    data = sealed(FORMAT, {"producer": _version()}, dict(weights or _tensors(branches)))
    described = {
        "format": FORMAT.name,
        "version": FORMAT.version,
        "retain": _version(),
        "base": {"name_or_path": decoder.config._name_or_path, **base_of(decoder.config)},
        "memory": config.to_dict(),
        "weights_sha256": hashlib.sha256(data).hexdigest(),
    }
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    write_together({place / WEIGHTS: data, place / CONFIG: (json.dumps(described, indent=1, sort_keys=True) + "\n").encode()}, mode=0o644)


def load(model: PreTrainedModel, folder: str | os.PathLike[str]) -> PreTrainedModel:
    """Give a base model the memories that ``save`` wrote.

    Args:
        model: The base, as it was before ``attach``; it is changed in place.
        folder: The folder; if there is none, the name of a repository with the two files on the model hub.

    Returns:
        The model.

    Raises:
        NotAStateFile: The folder holds no such memories; pickles are not read.
        DamagedStateFile: A file is cut short or has changed, or the two do not belong together.
        UnsupportedStateVersion: They were written in a format that this version does not know.
        ForeignState: They were trained beside another base model; the message says what differs.
        ValueError: The weights do not fit their configuration, or the model has memories already.
        OSError: There is no such folder or repository. However it fails, the model has not been changed.

    Examples:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import attach, detach
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval()
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}))
        >>> import tempfile
        >>> before = memory_hash(model)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(model, folder)
        ...     again = load(detach(model), folder)
        >>> memory_hash(again) == before
        True
    """
    place = _found(folder)
    described = _described(place)
    saved, own = described["base"], base_of(model.config)
    if saved["sha256"] != own["sha256"]:
        mine, theirs = own["config"], saved["config"]
        differing = [
            f"{name}: {theirs.get(name)!r}, here {mine.get(name)!r}" for name in sorted({*mine, *theirs}) if mine.get(name) != theirs.get(name)
        ]
        raise ForeignState(
            f"the memories in {place} were trained beside another base model ({saved['name_or_path'] or saved['config'].get('model_type')}) and mean nothing "
            f"in this one. There:\n  " + "\n  ".join(differing)
        )
    config = MemoryConfig.from_dict(described["memory"])
    branches = planned(model, config)
    _, tensors = unsealed(FORMAT, place / WEIGHTS)
    if hashlib.sha256((place / WEIGHTS).read_bytes()).hexdigest() != described["weights_sha256"]:
        raise DamagedStateFile(f"{place / CONFIG} and {WEIGHTS} do not belong together: one of them was replaced. Go back to a copy of both.")
    _check(tensors, _tensors(branches))
    for name, branch in branches.items():
        prefix = f"{name}.memory."
        own_tensors = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
        branch.to(own_tensors["strength"].dtype).load_state_dict(own_tensors)
    return put(model, config, branches)


def memory_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights and measures of a model's memories, by their names in its decoder.

    Raises:
        ValueError: It has none.

    Examples:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import attach
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval()
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}))
        >>> weights = memory_weights(model)
        >>> any("strength" in name for name in weights)
        True
    """
    session_of(model)
    return _tensors(_branches(model))


def saved_weights(folder: str | os.PathLike[str]) -> dict[str, Tensor]:
    """What ``save`` wrote of ``memory_weights``.

    Raises:
        NotAStateFile: There is no such file in the folder.
        DamagedStateFile: It is cut short or has changed.

    Examples:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import attach
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval()
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}))
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(model, folder)
        ...     found = saved_weights(folder)
        >>> found.keys() == memory_weights(model).keys()
        True
    """
    place = Path(folder) / WEIGHTS
    if not place.is_file():
        raise NotAStateFile(f"{folder} has no {WEIGHTS}; retain.retrofit.save writes one.")
    return dict(unsealed(FORMAT, place)[1])


def base_of(config: PretrainedConfig) -> dict[str, Any]:
    """What a base model is told by: its configuration without what may change, and that one's SHA-256 in canonical JSON."""
    plain = {name: value for name, value in config.to_dict().items() if name not in VOLATILE and not name.startswith("_")}
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), default=str)
    return {"model_type": config.model_type, "config": json.loads(canonical), "sha256": hashlib.sha256(canonical.encode()).hexdigest()}


def memory_hash(model: nn.Module) -> str:
    """16 hexadecimal digits that name a model's memories: the same for equal configurations and weights.

    Raises:
        ValueError: It has none, or they are not described by plain data.

    Examples:
        >>> import torch
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> from retain.retrofit import attach
        >>> base = LlamaForCausalLM(LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)).eval()
        >>> model = attach(base, MemoryConfig(memory={"heads": 2}))
        >>> memory_hash(model) == memory_hash(model)
        True
    """
    digest = hashlib.sha256(json.dumps(session_of(model).config.to_dict(), sort_keys=True).encode())
    for name, tensor in _tensors(_branches(model)).items():
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name}:{plain.dtype}:{list(plain.shape)}".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _branches(model: nn.Module) -> dict[str, MemoryBranch]:
    found = {name: getattr(attention, "memory", None) for name, attention in attentions_of(model).items()}
    return {name: branch for name, branch in found.items() if isinstance(branch, MemoryBranch)}


def _tensors(branches: Mapping[str, MemoryBranch]) -> dict[str, Tensor]:
    return {f"{name}.memory.{key}": tensor for name, branch in branches.items() for key, tensor in branch.state_dict().items()}


def _check(got: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    missing, unexpected = sorted(expected.keys() - got.keys()), sorted(got.keys() - expected.keys())
    shapes = [f"{name} {list(got[name].shape)} for {list(t.shape)}" for name, t in expected.items() if name in got and got[name].shape != t.shape]
    types = sorted({str(t.dtype) for t in got.values()})
    odd = types if len(types) != 1 or not all(t.is_floating_point() for t in got.values()) else []
    if missing or unexpected or shapes or odd:
        raise ValueError(
            f"the weights in {WEIGHTS} are not those that {CONFIG} describes: missing {missing}, unexpected {unexpected}, of other shapes {shapes}"
            f"{f', not of one floating type but {odd}' if odd else ''}. Cure: the two files as save wrote them."
        )


def _described(place: Path) -> dict[str, Any]:
    """The configuration in a folder, which holds the two files."""
    for name in (CONFIG, WEIGHTS):
        if not (place / name).is_file():
            pickles = sorted(path.name for path in place.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"))
            raise NotAStateFile(
                f"{place} has no {name}; retain.retrofit.save writes one"
                f"{f'. What is there may run code when it is read, and is not: {pickles}' if pickles else ''}."
            )
    try:
        described = json.loads((place / CONFIG).read_bytes())
        kind, version = described["format"], described["version"]
    except (ValueError, KeyError, TypeError):
        raise DamagedStateFile(f"{place / CONFIG} cannot be read as the configuration of memories. Go back to a copy of it.") from None
    if kind != FORMAT.name:
        raise NotAStateFile(f"{place / CONFIG} is of the format {kind!r}, not {FORMAT.name!r}; retain.retrofit.save writes one.")
    if version != FORMAT.version:
        raise UnsupportedStateVersion(
            f"{place / CONFIG} is of version {version!r}, written by retain {described.get('retain')}; this version of retain reads {FORMAT.version!r}."
        )
    missing = sorted({"base", "memory", "weights_sha256"} - described.keys())
    if missing or not {"sha256", "config", "name_or_path"} <= {*described["base"]}:
        raise DamagedStateFile(f"{place / CONFIG} is not whole: it lacks {missing or 'parts of the base'}. Go back to a copy of it.")
    return described


def _found(folder: str | os.PathLike[str]) -> Path:
    """A folder as it is, or else the copy of a repository's two files."""
    place = Path(folder)
    if place.is_dir():
        return place
    try:
        return Path(snapshot_download(str(folder), allow_patterns=[CONFIG, WEIGHTS]))
    except (OSError, HFValidationError) as error:
        raise FileNotFoundError(
            f"there is no folder {str(folder)!r}, and the model hub gave no repository of this name ({type(error).__name__}). Cure: the folder that "
            "retain.retrofit.save wrote; or the name of a repository, once with a connection, after which it is kept."
        ) from error


def _version() -> str:
    return importlib.metadata.version("retain")
