r"""Formulas become MathML while the site is built, so a page needs no script and no network to show them.

``$`a_t`$``, ``$a_t$`` and ``$$a_t$$`` are formulas, in pages and in docstrings. A formula that cannot be read stops the build.
"""

from __future__ import annotations

import re
from typing import Any

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor

BEFORE_CODE, BEHIND_CODE = 195, 185  # Python-Markdown looks for `code` at 190 and for escapes at 180
FORMS = (
    (r"\$`(.+?)`\$", "inline", BEFORE_CODE),
    (r"\$\$(.+?)\$\$", "block", BEHIND_CODE + 1),
    (r"(?<![\\$\w])\$(?![\s$])([^$]+?)(?<![\s\\])\$(?![\w$])", "inline", BEHIND_CODE),
)


UNKNOWN = ((r"\arg\min", r"\operatorname*{argmin}"), (r"\bigl\langle", r"\left\langle"), (r"\bigr\rangle", r"\right\rangle"))
"""What the converter does not know, and what says the same."""


def mathml(written: str, display: str) -> str:
    """A formula in TeX as MathML.

    Raises:
        ValueError: Some of it is not known to the converter.
    """
    plain = written
    for unknown, same in UNKNOWN:
        plain = plain.replace(unknown, same)
    converted = convert(plain, display=display)
    if "\\" in re.sub(r"<[^>]+>", "", converted):
        raise ValueError(f"The formula {written!r} has a command that the converter does not know. Cure: say it otherwise, or add to UNKNOWN.")
    return converted


class Formula(InlineProcessor):
    """One way to write a formula."""

    def __init__(self, pattern: str, display: str, md: Markdown) -> None:
        super().__init__(pattern, md)
        self.display = display

    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str, int, int]:
        """What Python-Markdown calls with a match."""
        return self.md.htmlStash.store(mathml(self.unescape(m.group(1)), self.display)), m.start(0), m.end(0)


class Formulas(Extension):
    """All of them."""

    def extendMarkdown(self, md: Markdown) -> None:
        """What Python-Markdown calls when it starts."""
        for i, (pattern, display, priority) in enumerate(FORMS):
            md.inlinePatterns.register(Formula(pattern, display, md), f"formula-{i}", priority)


def on_config(config: Any) -> Any:
    """Add the extension, for pages and for what mkdocstrings renders."""
    config.markdown_extensions.append(Formulas())
    return config
