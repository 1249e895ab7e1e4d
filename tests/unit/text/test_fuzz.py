"""Any text, and any sequence of operations, against a model that is a list of texts."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from retain.text import MemoryConfig
from retain.text.learner import Learner
from tests.unit.text.memories import EMBEDDER, opened

CONFIG = MemoryConfig(dim=8)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60).filter(str.strip)
OPERATIONS = st.one_of(
    st.tuples(st.just("observe"), TEXTS),
    st.tuples(st.just("pair"), TEXTS),
    st.tuples(st.sampled_from(["forget", "rollback"]), st.integers(0, 20)),
    st.tuples(st.sampled_from(["reopen", "snapshot", "reset", "flush", "refused", "other"]), st.none()),
)
Known = list[tuple[int, str, str | None]]


@settings(max_examples=15)
@given(st.lists(OPERATIONS, max_size=14))
def test_a_memory_is_what_its_history_says(operations: list[tuple[str, str | int | None]]) -> None:
    known, kept = Known(), list[Known]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "notes"
        memory = opened(path, CONFIG)
        for name, value in operations:
            if name in ("observe", "pair"):
                associate = "associate" if name == "pair" else None
                known.append((memory.observe(str(value), associate)["id"], str(value), associate))
            elif name == "forget" and known:
                number = known.pop(int(value or 0) % len(known))[0]
                gone = memory.forget(number)
                assert gone == [f"s{i}" for i, part in enumerate(kept) if number in [entry[0] for entry in part]]
                kept = [Known() if f"s{i}" in gone else part for i, part in enumerate(kept)]
            elif name == "rollback" and memory.snapshots():
                names = memory.snapshots()
                chosen = names[int(value or 0) % len(names)]
                memory.rollback(chosen)
                known = list(kept[int(chosen[1:])])
            elif name == "snapshot":
                memory.snapshot(f"s{len(kept)}")
                kept.append(list(known))
            elif name == "reset":
                memory.reset()
                known = []
            elif name == "flush":
                memory.flush()
            elif name == "reopen":
                memory.close()
                memory = opened(path, None)
            elif name == "other":
                with opened(path, CONFIG) as other:
                    known.append((other.observe("by another")["id"], "by another", None))
            elif name == "refused":
                for bad in ("", "a\0b"):
                    try:
                        memory.observe(bad)
                    except ValueError:
                        continue
                    raise AssertionError(f"{bad!r} was taken in")
            assert [(entry["id"], entry["text"], entry["associate"]) for entry in memory.history()] == known
        model = Learner(CONFIG, EMBEDDER.width)
        for number, text, associate in known:
            key, value = memory._embedded(text, associate)
            model.observe(number, key, value, CONFIG.learning_rate)
        assert memory.get_weight_hash() == model.hash()
        memory.close()
