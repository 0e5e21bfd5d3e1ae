"""What a directory answers (RFC 4511), read from its bytes.

ldaptor writes our requests; its reader is not used. That copies the rest of a message for each
value in it (for a group of 50,000 members it takes two seconds of the reactor's time, this one
some hundredths), leaves referrals out, and prints what it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from attrs import field, frozen

PAGED: Final = b"1.2.840.113556.1.4.319"
"""RFC 2696."""
DISCONNECTING: Final = b"1.3.6.1.4.1.1466.20036"
"""Notice of Disconnection (RFC 4511, 4.4.1)."""

_INTEGER, _OCTETS, _ENUMERATED, _SEQUENCE, _SET = 0x02, 0x04, 0x0A, 0x30, 0x31
_ENTRY: Final = 0x64
_REFERENCE: Final = 0x73
_INTERMEDIATE: Final = 0x79
_RESULTS: Final = frozenset({0x61, 0x65, 0x67, 0x69, 0x6B, 0x6D, 0x6F, 0x78})
_CONTROLS: Final = 0xA0
_REFERRAL: Final = 0xA3
_RESPONSE_NAME: Final = 0x8A
_RESPONSE_VALUE: Final = 0x8B


class Malformed(Exception):
    """The bytes are no message of LDAP."""


@frozen
class Entry:
    """An entry that a search found; ``attributes`` in the directory's order."""

    dn: str
    attributes: tuple[tuple[str, tuple[bytes, ...]], ...]
    size: int = field(default=0, eq=False)


@frozen
class Reference:
    """Where else a search would have to go on."""

    urls: tuple[str, ...]


@frozen
class Result:
    """The end of an operation.

    :ivar name: of an extended response. ``value``: its content.
    :ivar controls: the values by their OIDs.
    """

    code: int
    matched: str = ""
    message: str = ""
    referrals: tuple[str, ...] = ()
    name: bytes = b""
    value: bytes = b""
    controls: Mapping[bytes, bytes] = field(factory=dict)

    @property
    def cookie(self) -> bytes:
        """Where the next page begins; empty after the last. Raises Malformed."""
        value = self.controls.get(PAGED)
        if value is None:
            return b""
        sequence = _one(value, 0, len(value), _SEQUENCE)
        _, (tag, start, stop) = _exactly(value, *sequence, 2)
        if tag != _OCTETS:
            raise Malformed("a paged result's cookie is no octet string")
        return value[start:stop]


Reply = Entry | Reference | Result


def length_of(data: bytes | bytearray) -> int | None:
    """The length of the message that ``data`` begins with; None while that can't be told.

    Raises Malformed where it begins with none.
    """
    if not data:
        return None
    if data[0] != _SEQUENCE:
        raise Malformed("it does not begin as a message of LDAP does")
    if len(data) < 2:
        return None
    first = data[1]
    if first < 0x80:
        return 2 + first
    count = first & 0x7F
    if not 1 <= count <= 4:
        raise Malformed("a message's length is not of the kind that LDAP has")
    if len(data) < 2 + count:
        return None
    return 2 + count + int.from_bytes(data[2 : 2 + count], "big")


def id_of(message: bytes) -> int:
    """Which request a message answers; 0: none."""
    parts = _elements(message, *_one(message, 0, len(message), _SEQUENCE))
    _, start, stop = _next(parts, _INTEGER)
    return int.from_bytes(message[start:stop], "big")


def reply_of(message: bytes) -> Reply | None:
    """What a message says; None for an intermediate response. Raises Malformed."""
    parts = _elements(message, *_one(message, 0, len(message), _SEQUENCE))
    _next(parts, _INTEGER)
    tag, start, stop = _next(parts)
    if tag == _ENTRY:
        return _entry(message, start, stop)
    if tag == _REFERENCE:
        return Reference(tuple(_text(message, *each) for each in _elements(message, start, stop)))
    if tag in _RESULTS:
        controls = next(parts, None)
        return _result(message, start, stop, _controls(message, controls))
    if tag == _INTERMEDIATE:
        return None
    raise Malformed(f"a message of the unknown kind 0x{tag:02x}")


def _entry(data: bytes, start: int, stop: int) -> Entry:
    (_, name, end), (tag, first, last) = _exactly(data, start, stop, 2)
    if tag != _SEQUENCE:
        raise Malformed("an entry has no list of attributes")
    attributes = []
    for _, begin, finish in _elements(data, first, last):
        (_, type_start, type_stop), (kind, at, to) = _exactly(data, begin, finish, 2)
        if kind != _SET:
            raise Malformed("an attribute has no set of values")
        values = tuple([data[where:until] for _, where, until in _elements(data, at, to)])
        attributes.append((data[type_start:type_stop].decode("ascii", "replace"), values))
    return Entry(data[name:end].decode("utf-8", "replace"), tuple(attributes), len(data))


def _result(data: bytes, start: int, stop: int, controls: Mapping[bytes, bytes]) -> Result:
    parts = _elements(data, start, stop)
    _, begin, end = _next(parts, _ENUMERATED)
    code = int.from_bytes(data[begin:end], "big")
    matched, message = (_text(data, *_next(parts, _OCTETS)) for _ in range(2))
    referrals: tuple[str, ...] = ()
    name = value = b""
    for tag, begin, end in parts:
        if tag == _REFERRAL:
            referrals = tuple(_text(data, *each) for each in _elements(data, begin, end))
        elif tag == _RESPONSE_NAME:
            name = data[begin:end]
        elif tag == _RESPONSE_VALUE:
            value = data[begin:end]
    return Result(code, matched, message.strip("\0 \n"), referrals, name, value, controls)


def _controls(data: bytes, element: tuple[int, int, int] | None) -> Mapping[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    if element is None or element[0] != _CONTROLS:
        return found
    for _, start, stop in _elements(data, element[1], element[2]):
        parts = _elements(data, start, stop)
        _, begin, end = _next(parts, _OCTETS)
        oid = data[begin:end]
        for tag, begin, end in parts:
            if tag == _OCTETS:
                found[oid] = data[begin:end]
    return found


# -- BER (X.690), as far as LDAP has it ------------------------------------------------------------


def _elements(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Tag, start and end of the content of each element."""
    while position < end:
        tag = data[position]
        if position + 2 > end:
            raise Malformed("an element is cut off")
        length = data[position + 1]
        position += 2
        if length >= 0x80:
            count = length & 0x7F
            if not 1 <= count <= 4 or position + count > end:
                raise Malformed("an element has no definite length")
            length = int.from_bytes(data[position : position + count], "big")
            position += count
        stop = position + length
        if stop > end:
            raise Malformed("an element is longer than what it is in")
        yield tag, position, stop
        position = stop


def _next(parts: Iterator[tuple[int, int, int]], tag: int | None = None) -> tuple[int, int, int]:
    element = next(parts, None)
    if element is None or (tag is not None and element[0] != tag):
        raise Malformed("a message lacks a part")
    return element


def _exactly(data: bytes, start: int, stop: int, count: int) -> list[tuple[int, int, int]]:
    parts = list(_elements(data, start, stop))
    if len(parts) != count:
        raise Malformed("a message has too many parts, or too few")
    return parts


def _one(data: bytes, start: int, stop: int, tag: int) -> tuple[int, int]:
    """Where the content of the single element begins and ends."""
    ((found, begin, end),) = _exactly(data, start, stop, 1)
    if found != tag:
        raise Malformed("a message is no sequence")
    return begin, end


def _text(data: bytes, _tag: int, start: int, stop: int) -> str:
    return data[start:stop].decode("utf-8", "replace")
