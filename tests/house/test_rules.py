"""The house rules, held against every file of the repository; and each rule against a breach, to know that it bites."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house import rules
from tests.house.rules import Rule, Source

ROOT = Path(__file__).parents[2]

BREACHES: list[tuple[Rule, str, str]] = [
    (rules.file_is_short, "src/retain/core/rule.py", "x = 1\n" * 401),
    (rules.name_says_something, "src/retain/core/utils.py", ""),
    (rules.name_says_something, "src/retain/_helpers/rule.py", ""),
    (
        rules.constructor_is_small,
        "",
        "@dataclass(frozen=True)\nclass A:\n" + "".join(f"    a{i}: int\n" for i in range(9)),
    ),
    (
        rules.constructor_is_small,
        "",
        "@dataclass\nclass A:\n    hot: bool\n    cold = 1\n    wet: bool | None = None\n",
    ),
    (rules.constructor_is_small, "", "@dataclass\nclass A:\n    hot: Flag = True\n    wet: Flag = False\n"),
    (rules.constructor_is_small, "", "class A(NamedTuple):\n    hot: bool\n    wet: bool\n"),
    (rules.constructor_is_small, "", "class A:\n    def __init__(self, a, b, c, d, *e, f, g, h, **i): ...\n"),
    (rules.constructor_is_small, "", "class A:\n    def __init__(self, *, hot: bool, wet: bool): ...\n"),
    (rules.imports_stand_at_the_top, "", "def f():\n    from retain.core import rule\n"),
    (rules.imports_stand_at_the_top, "", "def f():\n    from . import rule\n"),
    (rules.imports_stand_at_the_top, "", "class A:\n    def f(self):\n        import retain.core.rule\n"),
    (rules.imports_stand_at_the_top, "", "def f():\n    return importlib.import_module('retain.core')\n"),
    (rules.rooms_do_not_use_the_door, "src/retain/core/rule.py", "from retain import MemoryRule\n"),
    (rules.rooms_do_not_use_the_door, "src/retain/core/rule.py", "import retain\n"),
    (rules.nothing_is_unpickled, "", "import pickle\n"),
    (rules.nothing_is_unpickled, "", "from pickle import loads\n"),
    (rules.nothing_is_unpickled, "", "state = torch.load(path)\n"),
    (rules.nothing_is_unpickled, "", "from torch import load\n"),
    (rules.nothing_is_unpickled, "", "np.load(path, allow_pickle=True)\n"),
    (rules.library_is_silent, "src/retain/core/rule.py", "print('hello')\n"),
    (rules.skip_says_what_lifts_it, "", "@pytest.mark.skip\ndef test(): ...\n"),
    (rules.skip_says_what_lifts_it, "", "@pytest.mark.skipif(sys.platform == 'x', reason='broken')\ndef test(): ...\n"),
    (rules.skip_says_what_lifts_it, "", "@pytest.mark.skipif(True, reason='needs a fix')\ndef test(): ...\n"),
    (rules.skip_says_what_lifts_it, "", "def test():\n    pytest.skip('later')\n"),
    (rules.skip_says_what_lifts_it, "", "np = pytest.importorskip('numpy')\n"),
    (rules.test_asks_more_than_a_shape, "", "def test():\n    assert y.shape == (2, 3)\n    assert x.size(0) == 2\n"),
    (rules.test_asks_more_than_a_shape, "", "def test():\n    assert tuple(y.shape) == (2, 3) and y.ndim == 2\n"),
]

KEPT: list[tuple[Rule, str, str]] = [
    (rules.file_is_short, "src/retain/core/rule.py", "x = 1\n" * 400),
    (rules.name_says_something, "src/retain/core/another.py", ""),
    (rules.constructor_is_small, "", "@dataclass\nclass A:\n" + "".join(f"    a{i}: int\n" for i in range(8))),
    (
        rules.constructor_is_small,
        "",
        "@dataclass\nclass A:\n    a: bool\n    b: ClassVar[bool]\n    c: bool = field(init=False)\n",
    ),
    (rules.constructor_is_small, "", "class A:\n    def __init__(self, a, b, c, d, e, f, g, h: bool): ...\n"),
    (rules.imports_stand_at_the_top, "", "from retain.core import rule\ndef f():\n    import json\n"),
    (rules.imports_stand_at_the_top, "", "def f():\n    from retain.engines import triton_dual\n"),
    (rules.rooms_do_not_use_the_door, "src/retain/cli/demo.py", "from retain import MemoryRule\n"),
    (rules.rooms_do_not_use_the_door, "src/retain/core/rule.py", "from retain.core import state\n"),
    (rules.nothing_is_unpickled, "", "load_state(path)\nsafetensors.torch.load(data)\n"),
    (rules.library_is_silent, "src/retain/cli/demo.py", "print('hello')\n"),
    (rules.library_is_silent, "src/retain/core/rule.py", '"""\n>>> print(1)\n"""\nlog.print(1)\n'),
    (
        rules.skip_says_what_lifts_it,
        "",
        "@pytest.mark.skipif(no_gpu(), reason='needs an accelerator')\ndef test(): ...\n",
    ),
    (rules.skip_says_what_lifts_it, "", "def test():\n    pytest.skip(f'needs {name}')\n"),
    (rules.test_asks_more_than_a_shape, "", "def test():\n    assert y.shape == (2, 3)\n    assert y.sum() == 0\n"),
    (rules.test_asks_more_than_a_shape, "", "def test():\n    assert y.shape == (2,)\n    assert_close(y, x)\n"),
]


def sources(folder: str) -> Iterator[Source]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield Source(path.relative_to(ROOT), path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("rule", rules.SOURCE_RULES)
def test_the_library_keeps_the_rule(rule: Rule) -> None:
    files = list(sources("src"))
    assert files, f"no Python file under {ROOT / 'src'}: the rules would hold of nothing"
    breaches = [breach for source in files for breach in rule(source)]
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize("rule", rules.TEST_RULES)
def test_the_tests_keep_the_rule(rule: Rule) -> None:
    breaches = [breach for source in sources("tests") for breach in rule(source)]
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize(("rule", "path", "text"), BREACHES)
def test_the_rule_sees_a_breach(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(Path(path or "src/retain/core/planted.py"), text)))


@pytest.mark.parametrize(("rule", "path", "text"), KEPT)
def test_the_rule_lets_good_code_pass(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(Path(path or "src/retain/core/planted.py"), text))) == []


def test_every_rule_has_a_planted_breach_and_a_clean_example() -> None:
    every = set(rules.SOURCE_RULES) | set(rules.TEST_RULES)
    assert {rule for rule, _, _ in BREACHES} == every
    assert {rule for rule, _, _ in KEPT} == every
