"""Names of Python source: where they stand, and that what is bound twice, or unclear, is left out."""

import pytest

from retain.tasks.names import names

SOURCE = '''"""A file."""
import os.path, collections as several
from json import (
    dumps,
    loads as read,
)

LIMIT: int = 4
low, high = 1, 2
total = other = 0


@several.wraps
class Thing(dict):
    size = LIMIT

    def total_of(self):
        return total


async def run(high):
    global other
    print(os.path, dumps(read), Thing, f"{LIMIT + run}", high)
    return run
'''


def test_what_is_bound_once_by_the_module_and_used_is_found_where_it_stands() -> None:
    found = {name.text: name for name in names(SOURCE)}
    kinds = {name.text: name.kind for name in found.values()}
    assert kinds == {
        "several": "import",
        "dumps": "import",
        "read": "import",
        "LIMIT": "assignment",
        "total": "assignment",
        "Thing": "class",
        "run": "function",
    }
    for name in found.values():
        for place in (name.bound, *name.uses):
            assert SOURCE[place : place + len(name.text)] == name.text
            assert not (SOURCE[place - 1] + SOURCE[place + len(name.text)]).replace(" ", "").isalnum()
    behind = {name.text: SOURCE[: name.bound].splitlines()[-1] for name in found.values()}
    assert behind == {
        "several": "import os.path, collections as ",
        "dumps": "    ",
        "read": "    loads as ",
        "LIMIT": "",
        "total": "",
        "Thing": "class ",
        "run": "async def ",
    } | {name: SOURCE[: found[name].bound].splitlines()[-1] for name in ("LIMIT", "total")}
    assert {name.text: len(name.uses) for name in found.values()} == {**dict.fromkeys(kinds, 1)}


@pytest.mark.parametrize(
    "source",
    [
        "size = 1\nsize = 2\nprint(size)\n",
        "size = 1\ndef run(size): print(size)\n",
        "size = 1\ndef run(): size = 2; print(size)\n",
        "size = 1\nprint([size for size in ()])\n",
        "size = 1\ndef run():\n    global size\n    print(size)\n",
        "size = 1\ntry: pass\nexcept OSError as size: print(size)\n",
        "size = 1\nmatch 3:\n    case size: print(size)\n",
        "size = 1\nmatch 3:\n    case [*size]: print(size)\n",
        "size = 1\nmatch 3:\n    case {**size}: print(size)\n",
        "size = 1\ndef run():\n    import size.more\n    print(size)\n",
        "size = 1\nprint(f'{(size := 3)}', size)\n",
        "size = 1\ndel size\nprint(size)\n",
        "size = 1\nfrom sizes import *\nprint(size)\n",
        "if True:\n    size = 1\nprint(size)\n",
        "size = 1\nprint(x.size, run(size=3), 'size')\n",
        "of = 1\nprint(of)\n",
        "size = 1\nprint(size, 'é')\n",
        "size = 1\r\nprint(size)\r\n",
        "size = 1\nprint size\n",
        "size = 1\nprint(size, '\0')\n",
    ],
)
def test_what_might_mean_another_thing_is_left_out(source: str) -> None:
    assert names(source) == ()


def test_without_the_doubt_it_is_there() -> None:
    ((text, kind, bound, uses),) = names("size = 1\nprint(size)\n")
    assert (text, kind, bound, uses) == ("size", "assignment", 0, (15,))
