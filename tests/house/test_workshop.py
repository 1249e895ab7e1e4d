"""What runs in other places than here is the same as what runs here: in GitHub's workflow, before a commit, in a citation."""

import importlib.metadata
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


def page(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    return [line.strip() for line in found.splitlines()]


def test_the_workflow_is_make_test_on_a_python_that_is_supported() -> None:
    (job,) = page(".github/workflows/test.yml")["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make test"]
    (version,) = (step["with"]["python-version"] for step in job["steps"] if "python-version" in step.get("with", {}))
    assert tuple(map(int, version.split("."))) >= (3, 10)


def test_the_hooks_are_make_lint() -> None:
    hooks = [hook["entry"] for repo in page(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    # A hook is given the files that change; what pyproject.toml leaves out must be left out of those, too.
    here = [entry.replace(".venv/bin/", "$(BIN)/").replace(" --force-exclude", "") for entry in hooks]
    there = [command.removesuffix(" .").replace(" format --check", " format") for command in recipe("lint")]
    assert here == there


def test_the_citation_is_of_this_version() -> None:
    citation = page("CITATION.cff")
    assert citation["version"] == importlib.metadata.version("retain")
    assert citation["license"] == "Apache-2.0"
