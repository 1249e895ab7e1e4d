"""The wheel and the sdist: what is in them, that they are one and the same package, and that they run where nothing else of this repository is.

An environment is *clean* if it was made for the test, has no other ``retain`` in sight, and holds, of what is installed here, the distributions that the
wheel's own metadata asks for, with those that they ask for, and none besides: they are linked into it one by one, since to fetch torch anew would prove no more
and take minutes. Pip installs the wheel there, and what runs there runs from another folder, in isolated mode or by the command that pip made.
"""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
BESIDE_SOURCES = {".gitignore", "CHANGELOG.md", "CITATION.cff", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}
CORE = """
import sys
import torch
import retain

memory = retain.NeuralMemory(8, heads=2)
y, state = memory(torch.randn(2, 70, 8))
print(retain.__version__, retain.__file__, state.clock.tolist())
"""


def build(source: Path, target: str, folder: Path) -> Path:
    """What the build backend makes of a source tree."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    run(command, source)
    (made,) = folder.iterdir()
    return made


def run(command: list[str], place: Path, code: int = 0) -> str:
    """What a command prints, run in a folder, with nothing in its surroundings that leads to this repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "RETAIN", "OMP_"))}
    done = subprocess.run(command, cwd=place, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sources() -> set[str]:
    """The files of the package, as git would keep them."""
    files = (path for path in (ROOT / "src" / "retain").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT / "src").as_posix() for path in files}


def test_the_wheel_holds_the_package_and_its_papers_and_nothing_else(wheel: Path) -> None:
    found = contents(wheel)
    about = f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info"
    assert wheel.name == f"retain-{distribution('retain').version}-py3-none-any.whl"
    assert set(found) == sources() | {f"{about}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    assert "retain/py.typed" in found
    assert found[f"{about}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    (metadata,) = (text for name, text in contents(wheel).items() if name.endswith("/METADATA"))
    told = email.message_from_bytes(metadata)
    assert (told["License-Expression"], told["Requires-Python"]) == ("Apache-2.0", ">=3.10")
    assert told["Description-Content-Type"] == "text/markdown"
    page = told.get_payload()
    assert isinstance(page, str)
    assert page.startswith("# retain")
    needed = [Requirement(line) for line in told.get_all("Requires-Dist", [])]
    assert {need.name for need in needed if need.marker is None} == {"torch", "safetensors", "jaxtyping"}


def test_the_sdist_makes_the_same_wheel_byte_by_byte(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (tree,) = (tmp_path / "source").iterdir()
    found = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    examples = {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py")}
    assert found == {f"src/{name}" for name in sources()} | examples | BESIDE_SOURCES
    assert build(tree, "wheel", tmp_path / "again").read_bytes() == wheel.read_bytes()


def closure(wheel: Path, *extras: str) -> set[str]:
    """The names of the distributions that the wheel needs, directly or not, here and now."""
    (metadata,) = (text for name, text in contents(wheel).items() if name.endswith("/METADATA"))
    waiting = [(Requirement(line), extras) for line in email.message_from_bytes(metadata).get_all("Requires-Dist", [])]
    found: set[tuple[str, str]] = set()
    while waiting:
        need, asked = waiting.pop()
        if need.marker is not None and not any(need.marker.evaluate({"extra": extra}) for extra in ("", *asked)):
            continue
        name = canonicalize_name(need.name)
        for extra in {"", *need.extras}:
            if (name, extra) not in found:
                found.add((name, extra))
                waiting += [(Requirement(line), (extra,)) for line in distribution(name).requires or []]
    return {name for name, _ in found}


def clean(place: Path, wheel: Path, *extras: str) -> Path:
    """An environment in which the wheel is installed with these extras. See the top of this file for what is clean about it."""
    venv.create(place, symlinks=True)
    python = place / "bin" / "python"
    (packages,) = (place / "lib").glob("python*/site-packages")
    for name in closure(wheel, *extras):
        each = distribution(name)
        for top in {file.parts[0] for file in each.files or []} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(each.locate_file(top))).resolve())
    run([sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)], place)
    return python


def test_the_core_runs_where_its_three_dependencies_are_and_no_other(wheel: Path, tmp_path: Path) -> None:
    names = closure(wheel)
    assert {"torch", "safetensors", "jaxtyping", "numpy"} <= names
    assert not names & {"transformers", "typer", "rich", "matplotlib", "hypothesis", "beartype", "retain"}
    python = clean(tmp_path / "core", wheel)
    version, file, clock = run([str(python), "-I", "-W", "error", "-c", CORE], tmp_path).split(maxsplit=2)
    assert version == distribution("retain").version
    assert Path(file).is_relative_to(tmp_path / "core")
    assert clock.strip() == "[70, 70]"
    told = run([str(python.with_name("retain")), "--help"], tmp_path, code=1)
    assert "pip install 'retain[cli]'" in told


@pytest.mark.slow
def test_the_command_of_the_clean_environment_gives_the_demonstration(wheel: Path, tmp_path: Path) -> None:
    python = clean(tmp_path / "cli", wheel, "cli")
    told = run([str(python.with_name("retain")), "demo", "--quick", "--length", "1024", "--out", "found"], tmp_path)
    assert re.search(r"1,024 bytes: [34] of 4 needles, writes off 0 of 4", told), told
    assert {path.name for path in (tmp_path / "found").iterdir()} >= {"demo.json", "needle.png", "code.png"}
