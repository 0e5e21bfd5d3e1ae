"""Strings of Java's as text."""

from __future__ import annotations

from typing import Any


def text_of(value: Any) -> str:
    """A ``java.lang.String`` as text; half of a surrogate pair, which Java allows and no encoding
    of text does, becomes U+FFFD."""
    try:
        return str(value)
    except UnicodeDecodeError:
        return bytes(value.getBytes("UTF-16BE")).decode("utf-16-be")
