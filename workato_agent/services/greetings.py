"""What a server is by its first bytes, for a port that turns out to be somebody else's."""

from __future__ import annotations

import re
from typing import Final

ENOUGH: Final = 64
"""Bytes that tell."""
HTTP: Final = "an HTTP server"
_GREETINGS: Final = (
    (rb"HTTP/|(?i:^<(!doctype )?html)", HTTP),
    (rb"SSH-", "an SSH server"),
    (rb"^...\x00[\x0a\xff]", "a MySQL or MariaDB server"),
    (rb"^-(ERR|NOAUTH|DENIED)", "a Redis server"),
    (rb"^\x15\x03", "a TLS server, HTTPS perhaps,"),
    (rb"^220[ -]", "a mail or FTP server"),
    (rb"^\x04\x01", "a SQL Server"),
)


def describe(greeting: bytes) -> str | None:
    """What a server that begins like this is, as the subject of a sentence; None if unknown."""
    for pattern, name in _GREETINGS:
        if re.search(pattern, greeting, re.DOTALL):
            return name
    return None
