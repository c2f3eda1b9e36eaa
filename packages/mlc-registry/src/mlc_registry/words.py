"""The words of a text, as searches find them."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["LONGEST", "list_words", "split_words"]

LONGEST = 64
"""Characters of a word that count; no word that people look for is longer."""
WORD = re.compile(r"[^\W_]+")


def split_words(*texts: str) -> set[str]:
    """Return the words of *texts*: letters and digits of any language, whatever their case."""
    return set(list_words(*texts))


def list_words(*texts: str) -> list[str]:
    """Return the words of *texts* in their order."""
    return [one[:LONGEST] for text in texts for one in WORD.findall(_fold(text))]


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
