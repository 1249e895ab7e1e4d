"""Names of Python source: where each is bound, and where it is used."""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from typing import Literal, NamedTuple

Kind = Literal["function", "class", "assignment", "import"]
LEAST_LETTERS = 3
TYPE_PARAMETERS = {"TypeVar", "ParamSpec", "TypeVarTuple"}
"""Nodes that only newer versions of Python know."""


class Name(NamedTuple):
    """A name that is bound once in a file, in a statement of the module itself, and used.

    Examples:
        >>> Name("BUFFER", "assignment", bound=0, uses=(42,)).kind
        'assignment'
    """

    text: str
    kind: Kind
    bound: int
    uses: tuple[int, ...]


@lru_cache(maxsize=4096)
def names(source: str) -> tuple[Name, ...]:
    """The names of three letters and more that the module binds and that nothing else in the file binds, not even in a scope of its own.

    So each use stands for the one binding. Places are those of characters. Uses in f-strings are left out, since not all versions of Python tell where
    they stand; so are files that are no Python, that are not plain ASCII, or that import all names of another module, of which nothing is found.

    Examples:
        >>> [(name.text, name.kind, name.uses) for name in names("import json\\nSIZE = 3\\ndef load(x):\\n    return json.loads(x, SIZE)\\n")]
        [('json', 'import', (45,)), ('SIZE', 'assignment', (59,))]
    """
    if not source.isascii() or "\r" in source:
        return ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    nodes = list(_nodes(tree))
    bindings = Counter(name for node in nodes for name in _binds(node))
    if "*" in bindings:
        return ()
    lines = list(accumulate((len(line) + 1 for line in source.split("\n")), initial=0))
    uses: dict[str, list[int]] = {}
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            uses.setdefault(node.id, []).append(lines[node.lineno - 1] + node.col_offset)
    found = [name for statement in tree.body for name in _bound(statement, source, lines)]
    once = [name for name in found if bindings[name.text] == 1 and name.text in uses and len(name.text) >= LEAST_LETTERS]
    return tuple(name._replace(uses=tuple(sorted(uses[name.text]))) for name in once)


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes, but of f-strings what is bound in them alone."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        inner = [child for child in ast.walk(node) if _binds(child)] if isinstance(node, ast.JoinedStr) else ast.iter_child_nodes(node)
        waiting += inner


def _binds(node: ast.AST) -> list[str]:
    """What a node binds, in whatever scope; ``*`` for all names of a module."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.arg(arg=name):
            return [name]
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return [name]
        case ast.alias():
            return [node.asname or node.name.split(".")[0]]
        case ast.Global(names=several) | ast.Nonlocal(names=several):
            return list(several)
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
            return [name]
        case _ if type(node).__name__ in TYPE_PARAMETERS:
            return [getattr(node, "name")]  # noqa: B009
        case _:
            return []


def _bound(statement: ast.stmt, source: str, lines: list[int]) -> Iterator[Name]:
    """What a statement of the module binds, and where the name stands in it; without the uses."""
    start = lines[statement.lineno - 1] + statement.col_offset
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            kind: Kind = "class" if isinstance(statement, ast.ClassDef) else "function"
            head = re.compile(r"(?:async\s+def|def|class)\s+").match(source, start)
            if head and source.startswith(statement.name, head.end()):
                yield Name(statement.name, kind, head.end(), ())
        case ast.Import() | ast.ImportFrom():
            for alias in statement.names:
                place = lines[alias.lineno - 1] + alias.col_offset
                if alias.asname:
                    place = lines[(alias.end_lineno or alias.lineno) - 1] + (alias.end_col_offset or 0) - len(alias.asname)
                yield Name(alias.asname or alias.name.split(".")[0], "import", place, ())
        case ast.Assign() | ast.AnnAssign():
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    yield Name(target.id, "assignment", lines[target.lineno - 1] + target.col_offset, ())
        case _:
            return
