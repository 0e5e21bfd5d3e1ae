"""Calls that have to come back to one agent (``docs/http-api.md``, "Which agent").

What an agent keeps between calls (a session, a receipt, a background run, a cursor) has an id of
the form ``AGENT~RANDOM``. In a call's path it stands right behind a word that tells what it names.
The random part is a secret: who has it may use what it names.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

KEPT: Final = frozenset({"sessions", "receipts", "runs", "cursors"})
_ID: Final = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]{0,63})~")
_FOREIGN: Final = frozenset({"http"})
"""Services whose paths are the target's own."""


def pinned_agent(service: str, path: str) -> str | None:
    """The agent whose id a path begins with, if it is of that form.

    :param path: what follows the profile, percent-encoded.
    """
    if service in _FOREIGN or "/" not in path:
        return None
    word, identifier = path.split("/", 2)[:2]
    if unquote(word) not in KEPT:
        return None
    match = _ID.match(unquote(identifier))
    return None if match is None else match[1]


def without_secret(path: str) -> str:
    """A URL's path with the random part of such ids left out, for the log."""
    if "~" not in path and "%" not in path:
        return path
    segments = path.split("/")
    for index, segment in enumerate(segments):
        plain = unquote(segment)
        if index and "~" in plain and unquote(segments[index - 1]) in KEPT:
            match = _ID.match(plain)
            segments[index] = "~*" if match is None else f"{match[0]}*"
    return "/".join(segments)
