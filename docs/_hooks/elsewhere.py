"""Pages and figures that lie beside their data, in ``recipes/`` and ``benchmarks/``, are part of the site.

A page writes ``../recipes/memories/README.md``, which is right where the repository is read, and the hook makes it right within the site.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

FOLDERS = ("benchmarks", "recipes")
UP = re.compile(rf"(\]\()\.\./((?:{'|'.join(FOLDERS)})/)")


def on_files(files: Files, config: Any) -> Files:
    """Add every page and figure of the folders."""
    root = Path(config.docs_dir).parent
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in {".md", ".png"}:
                files.append(File.generated(config, path.relative_to(root).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make links to the folders relative to where they are in the site."""
    return markdown if page.file.src_uri.startswith(FOLDERS) else UP.sub(r"\1\2", markdown)
