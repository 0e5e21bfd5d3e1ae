"""The bodies of calls, decoded and checked."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from workato_tunnel.problems import Problem

from ...requests import Request

MAX_BODY: Final = 16 * 1024 * 1024
MAX_PAGE: Final = 10_000

_Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
_PageSize = Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE)]


class _Body(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    pass


class SearchBody(_Body, frozen=True):
    """Of ``search``."""

    base: str = ""
    scope: Literal["base", "one", "sub"] = "sub"
    filter: str | dict[str, object] = "(objectClass=*)"
    params: dict[str, object] | None = None
    attributes: list[str] | None = None
    binary: list[str] = []
    max_entries: _Count | None = None
    page_size: _PageSize | None = None


class AddBody(_Body, frozen=True):
    """Of ``add``. ``attributes``: a value or a list of them each."""

    dn: str
    attributes: dict[str, object]


class Change(_Body, frozen=True):
    """One change of ``modify``. ``values``: one or a list."""

    operation: Literal["add", "delete", "replace", "increment"]
    attribute: str
    values: object = []


class ModifyBody(_Body, frozen=True):
    """Of ``modify``: made all or not at all, in their order."""

    dn: str
    changes: Annotated[list[Change], msgspec.Meta(min_length=1)]


class DeleteBody(_Body, frozen=True):
    """Of ``delete``."""

    dn: str


class RenameBody(_Body, frozen=True):
    """Of ``rename``. ``delete_old_rdn``: the old name's values do not stay attributes."""

    dn: str
    new_rdn: str
    delete_old_rdn: bool = True
    new_parent: str | None = None


class CompareBody(_Body, frozen=True):
    """Of ``compare``."""

    dn: str
    attribute: str
    value: object


class PasswordBody(_Body, frozen=True):
    """Of ``password``. Without ``old`` it is reset, which takes more rights."""

    dn: str
    new: Annotated[str, msgspec.Meta(min_length=1)]
    old: str | None = None


B = TypeVar("B", bound=_Body)


async def body_of(request: Request, kind: type[B]) -> B:
    """A call's body. Raises Problem."""
    encoding = (request.header("content-encoding") or "identity").strip().lower()
    if encoding != "identity":
        raise Problem(
            "bad_request",
            "the body has to come without an encoding",
            extra={"field": "Content-Encoding"},
        )
    return decode(await request.body.read(MAX_BODY), kind)


def decode(data: bytes, kind: type[B]) -> B:
    """A body of that kind. Raises Problem ``bad_request``, which never quotes a value."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        text = str(error)
        field = _field_of(text)
        raise Problem(
            "bad_request",
            f"{field}: {text}" if field and field not in text else text,
            hint=_members(kind),
            extra={"field": field} if field else None,
        ) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(
            "bad_request", f"the body is not JSON: {error}", hint=_members(kind)
        ) from None


def _members(kind: type[_Body]) -> str:
    members = ", ".join(f'"{name}"' for name in kind.__struct_fields__)
    return f"send a JSON object with {members}"


def _field_of(message: str) -> str | None:
    match = re.search(r"`\$\.?([^`]*)`$", message)
    if match:
        return match[1] or None
    match = re.search(r"(?:unknown|required) field `([^`]*)`", message)
    return match[1] if match else None
