"""Real text and real code, by work: what is trained on and what is held out share no work."""

from __future__ import annotations

import email
import random
import sysconfig
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .book import Book
from .editions import strip_gutenberg, title, without_editions

NOT_THEIR_OWN = {"site-packages", "dist-packages", "__pycache__", "_vendor", "vendor", "vendored", "_vendored"}
"""Folders whose files belong to another package than the one they lie in."""


@dataclass(frozen=True)
class Corpus:
    """Works of text by name: packages of code, books, articles.

    Args:
        works: The text of each.

    Raises:
        ValueError: There is no work.

    Examples:
        >>> corpus = Corpus({"ada": b"Notes on the engine", "grace": b"A first bug", "alan": b"On numbers"})
        >>> train, test = corpus.split(0.3)
        >>> sorted({*train.works} & {*test.works}), sorted({*train.works} | {*test.works})
        ([], ['ada', 'alan', 'grace'])
        >>> bytes(corpus.book().window(0, 16).numpy())
        b'Notes on the eng'
    """

    works: Mapping[str, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        if not any(self.works.values()):
            raise ValueError(f"Corpus needs at least one work with text in it, got {len(self.works)} works, all empty.")

    @classmethod
    def code(cls, folder: Path | None = None, names: Collection[str] | None = None) -> Corpus:
        """Python source by top-level package or module: that of the running interpreter's library, unless another folder of packages is given.

        What lies under a package but is not its own (``site-packages``, vendored copies) is left out.

        Args:
            folder: Such as ``site_packages()``.
            names: The packages to take; None means all.

        Raises:
            ValueError: One of the names is not there, or there is no source.

        Examples:
            >>> corpus = Corpus.code(names=["json", "string"])
            >>> sorted(corpus.works), b"class JSONDecoder" in corpus.works["json"]
            (['json', 'string'], True)
        """
        packages = _packages(library() if folder is None else folder, names)
        works = {name: b"\n".join(file.read_bytes() for file in _source(path)) for name, path in packages.items()}
        return cls({name: text for name, text in works.items() if text})

    @classmethod
    def modules(cls, folder: Path | None = None, names: Collection[str] | None = None) -> Corpus:
        """The Python source of ``code`` file by file. To split it by package, split that: ``Corpus.modules(names=trained.works)``.

        Args:
            folder: Such as ``site_packages()``.
            names: The packages to take; None means all.

        Raises:
            ValueError: One of the names is not there, or there is no source.

        Examples:
            >>> sorted(Corpus.modules(names=["json"]).works)
            ['json/__init__.py', 'json/decoder.py', 'json/encoder.py', 'json/scanner.py', 'json/tool.py']
        """
        root = library() if folder is None else folder
        files = [file for path in _packages(root, names).values() for file in _source(path)]
        return cls({file.relative_to(root).as_posix(): text for file in files if (text := file.read_bytes())})

    @classmethod
    def writings(cls, folder: Path) -> Corpus:
        """The ``.txt`` files under a folder, each work once.

        Headers and footers of Project Gutenberg are taken off. Of files with one title the first stays; of texts that share much, what
        ``without_editions`` leaves. Files that are not UTF-8 are read as Latin-1.

        Raises:
            ValueError: There is no text.

        Examples:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     _ = Path(folder, "ozymandias.txt").write_text("I met a traveller from an antique land")
            ...     Corpus.writings(Path(folder)).works
            {'ozymandias': b'I met a traveller from an antique land'}
        """
        works: dict[str, str] = {}
        for path in sorted(folder.rglob("*.txt")):
            text = _decode(path.read_bytes())
            works.setdefault(title(text, path.stem), strip_gutenberg(text))
        if not works:
            raise ValueError(f"no .txt file under {folder}.")
        return cls({name: text.encode() for name, text in without_editions(works).items()})

    @classmethod
    def documentation(cls) -> Corpus:
        """English that is always there: Python's own manual by topic, and what the installed packages say of themselves, by package.

        The manual is that behind ``help()``; of the packages their descriptions and licences are taken, each licence once. How much there is depends
        on the interpreter and on what is installed.

        Raises:
            ValueError: The interpreter came without its manual, and nothing is installed.

        Examples:
            >>> corpus = Corpus.documentation()
            >>> sum(map(len, corpus.works.values())) > 100_000
            True
        """
        works: dict[str, str] = {}
        try:
            from pydoc_data.topics import topics

            works |= {f"manual {name}": text for name, text in sorted(topics.items())}
        except ImportError:
            pass  # some distributions of Python leave it out
        for installed in sorted(site_packages().glob("*.dist-info")):
            name = installed.name.split("-")[0].lower()
            if (installed / "METADATA").is_file():
                works[f"description {name}"] = str(email.message_from_string(_decode((installed / "METADATA").read_bytes())).get_payload())
            for path in sorted(installed.rglob("*")):
                if path.is_file() and path.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")):
                    works[f"licence {name} {path.name}"] = _decode(path.read_bytes())
        return cls({name: text.encode(errors="replace") for name, text in without_editions(works).items()})

    def split(self, held_out: float | Collection[str] = 0.1, seed: int = 0) -> tuple[Corpus, Corpus]:
        """A corpus to train on and one that is held out, without a work in common.

        Args:
            held_out: The works that are held out, by name; or their share of all bytes, at most, for which works are drawn in a random order.
            seed: The order.

        Raises:
            ValueError: A name is not there, the share is not between 0 and 1, or one of the sides would be empty.
        """
        if isinstance(held_out, float | int):
            out = self._draw(held_out, seed)
        else:
            out = set(held_out)
            if missing := sorted(out - set(self.works)):
                raise ValueError(f"Corpus.split: {', '.join(missing)} cannot be held out; there is no work of that name.")
        if not out or len(out) == len(self.works):
            raise ValueError(
                f"Corpus.split leaves {len(self.works) - len(out)} works to train on and {len(out)} held out of {len(self.works)}; both sides need one. "
                "Cure: another share or other names, or more works."
            )
        trained, tested = ({name: text for name, text in self.works.items() if (name in out) == side} for side in (False, True))
        return Corpus(trained), Corpus(tested)

    def book(self) -> Book:
        """All works, one behind the other, in their order."""
        return Book.of(b"\n".join(self.works.values()), self.works)

    def _draw(self, share: float, seed: int) -> set[str]:
        """Works drawn in a random order, each taken if the share is not passed by it; the shortest one if it is passed by each."""
        if not 0 < share < 1:
            raise ValueError(f"Corpus.split needs a share between 0 and 1, got {share}.")
        names = sorted(self.works)
        random.Random(f"held out {seed}").shuffle(names)
        room = share * sum(map(len, self.works.values()))
        out: set[str] = set()
        for name in names:
            if len(self.works[name]) <= room:
                room -= len(self.works[name])
                out.add(name)
        return out or {min(names, key=lambda name: len(self.works[name]))}


def library() -> Path:
    """The folder of the running interpreter's standard library.

    Examples:
        >>> (library() / "json" / "decoder.py").is_file()
        True
    """
    return Path(sysconfig.get_paths()["stdlib"])


def site_packages() -> Path:
    """The folder that packages are installed in.

    Examples:
        >>> (site_packages() / "torch").is_dir()
        True
    """
    return Path(sysconfig.get_paths()["purelib"])


def _packages(root: Path, names: Collection[str] | None) -> dict[str, Path]:
    """The packages and modules of a folder by name; all of them, or those of ``names``."""
    entries = sorted(path for path in root.glob("*") if path.is_dir() or path.suffix == ".py")
    there = {path.stem: path for path in entries if path.stem.isidentifier() and path.stem not in NOT_THEIR_OWN}
    if missing := sorted(set(names or ()) - set(there)):
        raise ValueError(f"no Python source of {', '.join(missing)} under {root}; there are {', '.join(there) or 'no packages'}.")
    return {name: path for name, path in there.items() if names is None or name in names}


def _source(path: Path) -> list[Path]:
    """The Python files of a package, or of a module, in the order of their paths."""
    files = [path] if path.is_file() else [file for file in sorted(path.rglob("*.py")) if not NOT_THEIR_OWN & set(file.relative_to(path).parts)]
    return [file for file in files if file.is_file()]


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
