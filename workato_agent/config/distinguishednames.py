"""Distinguished names (RFC 4514): taken apart, compared, and written so that they mean one thing.

What a caller gives is never passed on as text. It is parsed, and written anew in front of the text
of a name from the config, so that no trick of quoting leads out of the subtree.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from attrs import field, frozen

MAX_NAME: Final = 8192
"""Characters of a name."""
MAX_PARTS: Final = 64

_TYPE: Final = re.compile(r" *([A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)*) *= *")
_HEX_VALUE: Final = re.compile(r"#((?:[0-9A-Fa-f]{2})+) *(?=[,+]|\Z)")
_SPECIAL: Final = ' "#+,;<=>\\'
_UNQUOTED: Final = frozenset('";<>\0')


@frozen
class Pair:
    """An attribute type and its value. A value that is no UTF-8 text stays bytes.

    :ivar encoded: the hexadecimal digits of the value's BER encoding, where it was given so.
    """

    type: str
    value: str | bytes
    encoded: str = ""

    @property
    def text(self) -> str:
        """As RFC 4514 has it."""
        if self.encoded:
            return f"{self.type}=#{self.encoded}"
        return f"{self.type}={_escaped(self.value)}"

    def key(self) -> tuple[str, str | bytes, str]:
        """What is the same for names that mean the same: of text, case and spaces don't count."""
        value = self.value
        if isinstance(value, str):
            value = " ".join(unicodedata.normalize("NFKC", value).casefold().split())
        return self.type.lower(), value, self.encoded


@frozen
class Part:
    """A relative distinguished name: one pair, or several that together name an entry."""

    pairs: tuple[Pair, ...]

    @property
    def text(self) -> str:
        """As RFC 4514 has it."""
        return "+".join(pair.text for pair in self.pairs)

    def key(self) -> frozenset[tuple[str, str | bytes, str]]:
        """As of a pair; their order does not count."""
        return frozenset(pair.key() for pair in self.pairs)


@frozen
class Name:
    """A distinguished name, from the entry up to the root.

    :ivar text: as RFC 4514 has it.
    """

    parts: tuple[Part, ...] = ()
    text: str = field(init=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "text", ",".join(part.text for part in self.parts))

    @classmethod
    def parse(cls, text: str) -> Name:
        """Raises ValueError that says what is wrong, without the text."""
        if len(text) > MAX_NAME:
            raise ValueError(f"a name has at most {MAX_NAME} characters")
        if not text.strip():
            return cls()
        return cls(tuple(_parts(text)))

    def below(self, ancestor: Name) -> Name | None:
        """What stands before ``ancestor`` in this name; None if it is not at or below it."""
        count = len(ancestor.parts)
        above = self.parts[len(self.parts) - count :] if count else ()
        if len(self.parts) < count or any(
            mine.key() != theirs.key() for mine, theirs in zip(above, ancestor.parts, strict=True)
        ):
            return None
        return Name(self.parts[: len(self.parts) - count])

    def under(self, ancestor: Name) -> Name:
        """This name as one relative to ``ancestor``."""
        return Name(self.parts + ancestor.parts)


def _parts(text: str) -> list[Part]:
    parts: list[Part] = []
    pairs: list[Pair] = []
    position = 0
    while True:
        match = _TYPE.match(text, position)
        if match is None:
            raise ValueError(f"expected TYPE=VALUE at character {position + 1}")
        value, encoded, position = _value(text, match.end())
        pairs.append(Pair(match[1], value, encoded))
        if position == len(text) or text[position] == ",":
            parts.append(Part(tuple(pairs)))
            pairs = []
            if len(parts) > MAX_PARTS:
                raise ValueError(f"a name has at most {MAX_PARTS} parts")
        if position == len(text):
            return parts
        position += 1


def _value(text: str, position: int) -> tuple[str | bytes, str, int]:
    """A value, its encoding, and where it ends: at a comma, a plus or the text's end."""
    if text.startswith("#", position):
        match = _HEX_VALUE.match(text, position)
        if match is None:
            raise ValueError(f"expected hexadecimal digits after # at character {position + 1}")
        return b"", match[1].lower(), match.end()
    octets = bytearray()
    kept = 0
    while position < len(text) and text[position] not in ",+":
        character = text[position]
        if character == "\\":
            octet, position = _unescaped(text, position)
            octets += octet
            kept = len(octets)
            continue
        if character in _UNQUOTED:
            raise ValueError(f"{character!r} has to be escaped, at character {position + 1}")
        octets += character.encode("utf-8", "surrogatepass")
        if character != " ":
            kept = len(octets)
        position += 1
    del octets[kept:]
    try:
        return octets.decode("utf-8"), "", position
    except UnicodeDecodeError:
        return bytes(octets), "", position


def _unescaped(text: str, position: int) -> tuple[bytes, int]:
    digits = text[position + 1 : position + 3]
    if re.fullmatch(r"[0-9A-Fa-f]{2}", digits):
        return bytes.fromhex(digits), position + 3
    if digits and digits[0] in _SPECIAL:
        return digits[0].encode(), position + 2
    raise ValueError(f"nothing is to be escaped at character {position + 1}")


def _escaped(value: str | bytes) -> str:
    if isinstance(value, bytes):
        return "".join(f"\\{octet:02x}" for octet in value)
    last = len(value) - 1
    pieces = []
    for index, character in enumerate(value):
        if ord(character) < 32 or ord(character) == 127:
            pieces.append(f"\\{ord(character):02x}")
        elif character in '"+,;<>=\\' or (
            (character == "#" and index == 0) or (character == " " and index in (0, last))
        ):
            pieces.append("\\" + character)
        else:
            pieces.append(character)
    return "".join(pieces)
