"""One page for each public module, written from what the module exports and the docstrings of that.

Nothing is imported: exports are read from the source, as ``X as X`` imports, ``__all__`` or the module's own public definitions.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

MODULES = {
    "retain": "The door: what `import retain` offers.",
    "retain.presets": "Memories that have a name, each a rule composed of the parts below.",
    "retain.structure": "What a memory is.",
    "retain.bias": "What a memory is asked to hold.",
    "retain.retention": "What a memory lets go.",
    "retain.learner": "How a memory moves.",
    "retain.engines": "What runs a rule.",
    "retain.layers": "Layers for models: memories with their gates and projections, attention, levels.",
    "retain.blocks": "A layer of a model, after the papers' figures.",
    "retain.models": "Language models among Hugging Face's.",
    "retain.optim": "Optimizers as memories of gradients.",
    "retain.retrofit": "A memory for a model that is trained already.",
    "retain.text": "A memory of texts for agents.",
    "retain.tasks": "What memories are trained for and asked.",
    "retain.training": "Runs.",
    "retain.training.retrofit": "Runs that train a memory beside a frozen model.",
    "retain.evaluation": "What a model knows, beside controls.",
    "retain.inspection": "What a memory does with a text, and what changed in it.",
    "retain.storage": "Files that are whole or not there.",
    "retain.compat.titans_pytorch": "Layers of titans-pytorch.",
}
WITHIN = {f"retain.{name}": f"retain.memory.{name}" for name in ("presets", "structure", "bias", "retention", "learner")}


def source_of(module: str, src: Path) -> Path:
    """The file of a module."""
    path = src.joinpath(*WITHIN.get(module, module).split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def exports(path: Path) -> list[str]:
    """The names that a module offers, in its order."""
    names: list[str] = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
        if isinstance(node, ast.ImportFrom):
            names += [alias.name for alias in node.names if alias.asname == alias.name]
        elif isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            names.append(node.name)
    return names


def written(module: str, src: Path) -> str:
    """The page of a module, in Markdown."""
    names = exports(source_of(module, src))
    inner = [f"{module}.{name}" for name in names if f"{module}.{name}" in MODULES]
    lines = [f"# {module}", "", MODULES[module], "", *(f"- [`{each}`]({each}.md): {MODULES[each]}" for each in inner), ""]
    for name in names:
        if f"{module}.{name}" not in inner:
            lines += [f"::: {WITHIN.get(module, module)}.{name}", ""]
    return "\n".join(lines)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    src = Path(config.docs_dir).parent / "src"
    for module in MODULES:
        files.append(File.generated(config, f"reference/{module}.md", content=written(module, src)))
    return files
