"""Attribute types and values as calls have them.

A value is an octet string. It is text in a call where it is text, and ``{"base64": "…"}`` where it
is not, or where its attribute is known to be binary.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Final

from workato_tunnel.problems import Problem

_BINARY: Final = """
    jpegphoto photo thumbnailphoto thumbnaillogo audio usercertificate cacertificate
    certificaterevocationlist authorityrevocationlist deltarevocationlist crosscertificatepair
    usersmimecertificate userpkcs12 x500uniqueidentifier javaserializeddata krbprincipalkey
    objectguid objectsid sidhistory ntsecuritydescriptor msexchmailboxguid logonhours
    msds-generationid tokengroups replpropertymetadata dnsrecord unicodepwd
"""
BINARY: Final = frozenset(_BINARY.split())
"""Attribute types whose values are never text, in lower case."""
_TYPE: Final = r"(?:[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+)"
_ATTRIBUTE: Final = re.compile(rf"{_TYPE}(?:;[A-Za-z0-9-]+)*")
# Active Directory gives large attributes in ranges: member;range=1500-*.
_SELECTED: Final = re.compile(rf"{_TYPE}(?:;(?:[A-Za-z0-9-]+|range=\d+-(?:\d+|\*)))*|[*+]|1\.1")
_LONGEST: Final = 256


def refuse(detail: str, field: str, hint: str | None = None) -> Problem:
    """``bad_request`` that names the member."""
    return Problem("bad_request", f"{field}: {detail}", hint=hint, extra={"field": field})


def type_of(attribute: str) -> str:
    """The type in lower case, of a description that may have options: ``cn`` of ``CN;lang-de``."""
    return attribute.partition(";")[0].lower()


def attribute(text: str, where: str) -> str:
    """An attribute description (RFC 4512, 2.5). Raises Problem that names ``where``."""
    if len(text) > _LONGEST or _ATTRIBUTE.fullmatch(text) is None:
        raise refuse(
            "expected the name or OID of an attribute", where, "for example mail or cn;lang-de"
        )
    return text


def selector(text: str, where: str) -> str:
    """What a search may ask for: attribute descriptions, ``*``, ``+`` and ``1.1``."""
    if len(text) > _LONGEST or _SELECTED.fullmatch(text) is None:
        raise refuse(
            "expected the name or OID of an attribute", where, "or * for all, + for operational"
        )
    return text


def octets(value: object, where: str) -> bytes:
    """A value as the directory takes it. Raises Problem that names ``where``."""
    if isinstance(value, str):
        return _encoded(value, where)
    if isinstance(value, bool):
        return b"TRUE" if value else b"FALSE"
    if isinstance(value, int):
        return str(value).encode()
    if isinstance(value, Mapping) and value.keys() == {"base64"}:
        text = value["base64"]
        try:
            if isinstance(text, str):
                return b64decode(text, validate=True)
        except binascii.Error:
            pass
        raise refuse("is not base64", f"{where}.base64")
    raise refuse("expected text, a whole number, true or false", where, 'bytes are {"base64": "…"}')


def several(value: object, where: str) -> list[bytes]:
    """One value, or a list of them."""
    if isinstance(value, list):
        return [octets(each, f"{where}[{index}]") for index, each in enumerate(value)]
    return [octets(value, where)]


def shown(attribute: str, values: Iterable[bytes], binary: frozenset[str]) -> list[object]:
    """Values as callers see them; those of ``binary`` (types in lower case) are never text."""
    name, _, options = attribute.partition(";")
    name = name.lower()
    if name in BINARY or name in binary or "binary" in options.lower().split(";"):
        return [_base64(value) for value in values]
    return [_text(value) for value in values]


def _text(value: bytes) -> object:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return _base64(value)


def _base64(value: bytes) -> dict[str, str]:
    return {"base64": b64encode(value).decode("ascii")}


def _encoded(text: str, where: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise refuse("holds half of a surrogate pair", where) from None
