"""The house rules that a parsed file can be held to. A rule yields one sentence per breach: where, what, and the cure."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

MOST_LINES = 400
MOST_ARGUMENTS = 8
MOST_BOOLEANS = 1
LAZY_NAMES = {"utils", "helpers", "misc", "common", "other"}
PICKLERS = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
PRINTING_ROOMS = {"cli"}
ROOMS_ABOVE_THE_DOOR = {"cli", "demo", "benchmark"}
SHAPE_WORDS = {"shape", "size", "ndim", "dim", "numel"}


@dataclass(frozen=True)
class Source:
    """A file as the rules see it; `path` is relative to the repository."""

    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def room(self) -> str:
        """The room of the package that the file is in: `engines` for `src/retain/engines/dual.py`."""
        parts = self.path.with_suffix("").parts
        return parts[parts.index("retain") + 1] if "retain" in parts else ""

    def at(self, node: ast.AST, sentence: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {sentence}"


Rule = Callable[[Source], Iterator[str]]


# ---- rules for src


def file_is_short(source: Source) -> Iterator[str]:
    lines = len(source.text.splitlines())
    if lines > MOST_LINES:
        yield f"{source.path}: {lines} lines, {MOST_LINES} allowed; split it by noun"


def name_says_something(source: Source) -> Iterator[str]:
    for part in source.path.with_suffix("").parts:
        if part.strip("_").lower() in LAZY_NAMES:
            yield f"{source.path}: '{part}' names nothing; name it after its verb or theorem, or move it to its caller"


def constructor_is_small(source: Source) -> Iterator[str]:
    for owner in ast.walk(source.tree):
        if not isinstance(owner, ast.ClassDef):
            continue
        for arguments in _constructors(owner):
            booleans = [name for name, boolean in arguments.items() if boolean]
            if len(arguments) > MOST_ARGUMENTS:
                yield source.at(
                    owner,
                    f"{owner.name} takes {len(arguments)} arguments, {MOST_ARGUMENTS} allowed; name the object they form",
                )
            if len(booleans) > MOST_BOOLEANS:
                yield source.at(
                    owner,
                    f"{owner.name} takes the booleans {', '.join(booleans)}, {MOST_BOOLEANS} allowed; a flag is an object waiting to be named",
                )


def imports_stand_at_the_top(source: Source) -> Iterator[str]:
    for function in ast.walk(source.tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        for node in ast.walk(function):
            for module in _retain_modules(node):
                if "triton" not in module:
                    yield source.at(node, f"imports {module} inside a function; import it at the top, or move the shared word down")


def rooms_do_not_use_the_door(source: Source) -> Iterator[str]:
    if source.room in ROOMS_ABOVE_THE_DOOR:
        return
    for node in ast.walk(source.tree):
        through_the_door = (isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "retain") or (
            isinstance(node, ast.Import) and any(alias.name == "retain" for alias in node.names)
        )
        if through_the_door:
            yield source.at(node, "imports from the door; import from the room where the name lives")


def nothing_is_unpickled(source: Source) -> Iterator[str]:
    cure = "a pickle runs code when it is read; use safetensors"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            modules = [ast.unparse(node)]
        else:
            modules = []
        for module in modules:
            if module.split(".")[0] in PICKLERS or module in {"torch.load", "torch.serialization.load"}:
                yield source.at(node, f"uses {module}; {cure}")
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            yield source.at(node.value, f"passes allow_pickle; {cure}")


def library_is_silent(source: Source) -> Iterator[str]:
    if source.room in PRINTING_ROOMS:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            yield source.at(node, "prints; return the value, and let the command line print it")


# ---- rules for tests


def skip_says_what_lifts_it(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Attribute) or node.attr not in {"skip", "skipif", "xfail", "importorskip"}:
            continue
        if ast.unparse(node) not in {
            *(f"pytest.mark.{mark}" for mark in ("skip", "skipif", "xfail")),
            *(f"pytest.{call}" for call in ("skip", "xfail", "importorskip")),
        }:
            continue
        call = next((c for c in ast.walk(source.tree) if isinstance(c, ast.Call) and c.func is node), None)
        reason = _reason(call, positional=node.attr in {"skip", "xfail"}) if call else ""
        if not {"needs", "until"} & set(reason.split()):
            yield source.at(node, f"{node.attr} with the reason {reason!r}; say what lifts it: 'needs ...' or 'until ...'")
        if call and node.attr == "skipif" and call.args and isinstance(call.args[0], ast.Constant):
            yield source.at(node, "skipif on a constant is a test switched off; state the condition, or delete the test")


def test_asks_more_than_a_shape(source: Source) -> Iterator[str]:
    for function in ast.walk(source.tree):
        if not isinstance(function, ast.FunctionDef) or not function.name.startswith("test"):
            continue
        asserts = [node for node in ast.walk(function) if isinstance(node, ast.Assert)]
        if asserts and all(_is_about_shape(node.test) for node in asserts) and not _checks_otherwise(function):
            yield source.at(function, f"{function.name} asserts only shapes; assert a value, a law or a refusal")


# ---- reading the tree


def _constructors(owner: ast.ClassDef) -> Iterator[dict[str, bool]]:
    """Each way a class takes arguments, as name -> whether it is a boolean."""
    decorators = {ast.unparse(d.func if isinstance(d, ast.Call) else d).split(".")[-1] for d in owner.decorator_list}
    bases = {ast.unparse(base).split(".")[-1] for base in owner.bases}
    if "dataclass" in decorators or "NamedTuple" in bases:
        yield {
            ast.unparse(field.target): _is_boolean(field.annotation, field.value)
            for field in owner.body
            if isinstance(field, ast.AnnAssign) and _is_argument(field)
        }
    for method in owner.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            a = method.args
            named = [*a.posonlyargs, *a.args][1:] + a.kwonlyargs
            starred = [star for star in (a.vararg, a.kwarg) if star]
            yield {argument.arg: _is_boolean(argument.annotation, None) for argument in named + starred}


def _is_argument(field: ast.AnnAssign) -> bool:
    if "ClassVar" in ast.unparse(field.annotation):
        return False
    keywords = field.value.keywords if isinstance(field.value, ast.Call) else []
    return not any(keyword.arg == "init" and ast.unparse(keyword.value) == "False" for keyword in keywords)


def _is_boolean(annotation: ast.expr | None, default: ast.expr | None) -> bool:
    words = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)} if annotation else set()
    return "bool" in words or (isinstance(default, ast.Constant) and isinstance(default.value, bool))


def _retain_modules(node: ast.AST) -> Iterator[str]:
    """The modules of this package that a node imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "retain")
    elif isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        if node.level or module.split(".")[0] == "retain":
            yield from (f"{module}:{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"import_module", "__import__"}:
        name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else ""
        if isinstance(name, str) and (name.startswith(".") or name.split(".")[0] == "retain"):
            yield name


def _reason(call: ast.Call, positional: bool) -> str:
    given = next((keyword.value for keyword in call.keywords if keyword.arg == "reason"), None)
    if given is None and positional and call.args:
        given = call.args[0]
    words = [node.value for node in ast.walk(given) if isinstance(node, ast.Constant)] if given else []
    return " ".join(word for word in words if isinstance(word, str))


def _is_about_shape(test: ast.expr) -> bool:
    if isinstance(test, ast.BoolOp):
        return all(_is_about_shape(value) for value in test.values)
    if isinstance(test, ast.Compare):
        return any(_asks_shape(side) for side in (test.left, *test.comparators))
    return False


def _asks_shape(side: ast.expr) -> bool:
    """Whether an expression is a shape: `y.shape`, `y.shape[0]`, `tuple(y.shape)`, `y.size(0)`."""
    if isinstance(side, ast.Subscript):
        return _asks_shape(side.value)
    if isinstance(side, ast.Attribute):
        return side.attr in SHAPE_WORDS
    if isinstance(side, ast.Call):
        if ast.unparse(side.func) in {"tuple", "list"}:
            return any(_asks_shape(argument) for argument in side.args)
        return ast.unparse(side.func).split(".")[-1] in SHAPE_WORDS
    return False


def _checks_otherwise(function: ast.FunctionDef) -> bool:
    names = (ast.unparse(node.func).split(".")[-1] for node in ast.walk(function) if isinstance(node, ast.Call))
    return any(name.startswith(("assert", "check")) or name in {"raises", "warns", "gradcheck"} for name in names)


SOURCE_RULES: tuple[Rule, ...] = (
    file_is_short,
    name_says_something,
    constructor_is_small,
    imports_stand_at_the_top,
    rooms_do_not_use_the_door,
    nothing_is_unpickled,
    library_is_silent,
)
TEST_RULES: tuple[Rule, ...] = (
    file_is_short,
    name_says_something,
    skip_says_what_lifts_it,
    test_asks_more_than_a_shape,
)
