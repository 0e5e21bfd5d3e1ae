"""From the path of a URL to names that can be walked, and back. Pure: nothing is opened here.

A path is a tuple of names as bytes, since that is what a POSIX file system stores. What may be
reached is decided later, while the names are walked one by one (``posix.py``); here only what can't
be a path at all is refused.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from workato_tunnel.problems import Problem

from .windows_names import windows_objection

Names = tuple[bytes, ...]
"""A path below the base, each name as bytes; empty is the base itself."""

MAX_PATH: Final = 16 * 1024
"""The longest path taken, in bytes once decoded. Single names are limited by the file system."""

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SHOWN: Final = 300
_TEMPORARY_PREFIX: Final = b".onprem-"
_KEPT_SUFFIX: Final = b".upload"
_TEMPORARY: Final = re.compile(rb"\.onprem-[0-9a-f]{32}\.(part|upload)")


def names_of(encoded: str, *, trailing_slash: bool = False, windows: bool = False) -> Names:
    """The names of a percent-encoded path, decoded once.

    :param trailing_slash: accept one slash at the end, as people write folders.
    :param windows: also refuse what is more than a name there (``windows_names.py``).

    Raises Problem ``bad_request`` for empty, ``.`` and ``..`` segments, an encoded slash, NUL,
    a broken escape, the names of uploads under way, and paths beyond :data:`MAX_PATH`.
    """
    try:
        raw = encoded.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise _malformed("the path holds characters that are no Unicode text") from None
    if _BAD_ESCAPE.search(raw):
        raise _malformed("the path holds a '%' that is not followed by two hexadecimal digits")
    if trailing_slash and raw.endswith(b"/"):
        raw = raw[:-1]
    if not raw:
        return ()
    names = tuple(unquote_to_bytes(segment) for segment in raw.split(b"/"))
    if sum(map(len, names)) + len(names) > MAX_PATH:
        raise _malformed(f"the path is longer than {MAX_PATH} bytes")
    for name in names:
        _check(name, windows)
    return names


def _check(name: bytes, windows: bool) -> None:
    if name == b"":
        raise _malformed("the path holds an empty segment ('//', or a slash at its start or end)")
    if name in (b".", b".."):
        raise _malformed(f"the path holds the segment {name.decode()!r}")
    if b"/" in name:
        raise _malformed("a name holds an encoded slash (%2F)")
    if b"\0" in name:
        raise _malformed("a name holds a NUL byte (%00)")
    if windows and (objection := windows_objection(name)) is not None:
        raise _malformed(objection)
    if is_temporary(name.lower() if windows else name):
        raise _malformed("names of this form belong to uploads under way")


def _malformed(detail: str) -> Problem:
    return Problem(
        "bad_request",
        detail,
        hint="Give the path relative to the profile's base, each name percent-encoded once.",
        extra={"field": "path"},
    )


def is_text(names: Names) -> bool:
    """Whether every name is valid UTF-8."""
    try:
        b"/".join(names).decode()
    except UnicodeDecodeError:
        return False
    return True


def text_of(names: Names) -> str:
    """A path as text: as it is where it is UTF-8, percent-encoded as in a URL where it is not."""
    joined = b"/".join(names)
    return joined.decode() if is_text(names) else quote_from_bytes(joined)


def shown(names: Names) -> str:
    """A path for an error's text: quoted, its middle left out where it is very long."""
    text = text_of(names)
    if len(text) > _SHOWN:
        text = f"{text[: _SHOWN // 2]}…{text[-_SHOWN // 2 :]}"
    return f"'{text}'" if names else "the base folder"


def temporary_name() -> bytes:
    """A fresh hidden name for a file that is still being written."""
    return _TEMPORARY_PREFIX + secrets.token_hex(16).encode() + b".part"


def kept_name(key: bytes, names: Names) -> bytes:
    """The hidden name of an upload that outlives its calls: the same for the same key and path."""
    place = b"".join(b"%d:%b" % (len(part), part) for part in (key, *names))
    digest = hashlib.sha256(place).hexdigest()[:32]
    return _TEMPORARY_PREFIX + digest.encode() + _KEPT_SUFFIX


def is_temporary(name: bytes) -> bool:
    """Whether a name is one of :func:`temporary_name`'s or :func:`kept_name`'s."""
    return name.startswith(_TEMPORARY_PREFIX) and _TEMPORARY.fullmatch(name) is not None


def is_kept(name: bytes) -> bool:
    """Whether a name is one of :func:`kept_name`'s."""
    return is_temporary(name) and name.endswith(_KEPT_SUFFIX)
