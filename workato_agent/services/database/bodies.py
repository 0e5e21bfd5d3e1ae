"""The bodies of calls: JSON or MessagePack, checked, with the values of their parameters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Final, TypeVar

import msgspec
from attrs import frozen

from workato_tunnel.problems import Problem

from .parameters import Number, parameter, refuse

MAX_SQL: Final = 1024 * 1024
MAX_BODY: Final = 16 * 1024 * 1024

JSON: Final = "application/json"
MSGPACK: Final = "application/vnd.msgpack"
_MSGPACK_NAMES: Final = frozenset({MSGPACK, "application/msgpack", "application/x-msgpack"})

MaxRows = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Values = list[object] | dict[str, object]


class _QueryBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    sql: str
    params: Values | None = None
    max_rows: MaxRows | None = None


class _ExecuteBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    sql: str
    params: Values | None = None


class _BatchBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    sql: str
    params: list[Values]


class _NamedBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    params: Values | None = None
    max_rows: MaxRows | None = None


class _CallBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    params: Values | None = None


class _EmptyBody(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    pass


@frozen
class Call:
    """A decoded body of ``query``, ``execute`` or a named query, whose ``sql`` is empty.

    ``params`` hold None, bool, int, str, bytes, Number, Typed and lists of them.
    """

    sql: str
    params: list[object] | dict[str, object] | None
    max_rows: int | None = None


@frozen
class BatchCall:
    """A decoded body of ``batch``: all of its sets are lists, or all are objects."""

    sql: str
    params: Sequence[list[object]] | Sequence[dict[str, object]]


B = TypeVar("B", bound=msgspec.Struct)


@cache
def _json_decoder(kind: type[B]) -> msgspec.json.Decoder[B]:
    return msgspec.json.Decoder(kind, float_hook=Number)


@cache
def _msgpack_decoder(kind: type[B]) -> msgspec.msgpack.Decoder[B]:
    return msgspec.msgpack.Decoder(kind)


@frozen
class Encoded:
    """A body as it came.

    :ivar media_type: :data:`JSON` or :data:`MSGPACK`.
    """

    data: bytes
    media_type: str = JSON

    def query(self) -> Call:
        """The body of ``query``. Raises Problem, as all of these."""
        body = self._decode(_QueryBody)
        return Call(_statement(body.sql), _params(body.params), body.max_rows)

    def execute(self) -> Call:
        """The body of ``execute``: what RETURNING brings is bounded by the agent."""
        body = self._decode(_ExecuteBody)
        return Call(_statement(body.sql), _params(body.params))

    def batch(self) -> BatchCall:
        """The body of ``batch``."""
        body = self._decode(_BatchBody)
        kind = type(body.params[0]) if body.params else list
        converted = []
        for index, values in enumerate(body.params):
            where = f"params[{index}]"
            if type(values) is not kind:
                raise refuse("every set of values is a list, or every one an object", where)
            converted.append(_params(values, where))
        return BatchCall(_statement(body.sql), converted)  # type: ignore[arg-type]  # all of a kind

    def named(self) -> Call:
        """The body of a named query; it may be empty."""
        if not self.data:
            return Call("", None)
        body = self._decode(_NamedBody)
        return Call("", _params(body.params), body.max_rows)

    def procedure(self) -> list[object] | dict[str, object] | None:
        """The parameters of a procedure; the body may be empty."""
        return _params(self._decode(_CallBody).params) if self.data else None

    def nothing(self) -> None:
        """No body, or an empty object."""
        if self.data:
            self._decode(_EmptyBody)

    def _decode(self, kind: type[B]) -> B:
        try:
            if self.media_type == MSGPACK:
                decoded: B = _msgpack_decoder(kind).decode(self.data)
            else:
                decoded = _json_decoder(kind).decode(self.data)
        except msgspec.ValidationError as error:
            raise refuse(str(error), _field_of(str(error))) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
            name = "MessagePack" if self.media_type == MSGPACK else "JSON"
            members = ", ".join(f'"{member}"' for member in kind.__struct_fields__)
            raise Problem(
                "bad_request",
                f"the body is not {name}: {error}",
                hint=f"send an object with {members or 'no members'} as {self.media_type}",
            ) from None
        return decoded


def check_encoding(header: str | None) -> None:
    """Raises Problem ``bad_request`` for a body that is compressed: nothing here unpacks it."""
    if (header or "identity").strip().lower() != "identity":
        raise refuse("the body has to come without an encoding", "Content-Encoding")


def media_type(content_type: str | None) -> str:
    """:data:`JSON` or :data:`MSGPACK`, of a ``Content-Type``; JSON without one.

    curl's own (``application/x-www-form-urlencoded``) and unknown ones count as JSON.
    Raises Problem ``bad_request``.
    """
    name = (content_type or "").partition(";")[0].strip().lower()
    if name in _MSGPACK_NAMES:
        return MSGPACK
    if name.startswith(("application/vnd.", "multipart/", "text/csv")):
        raise Problem(
            "bad_request",
            f"the body's type {name} is not supported here",
            hint=f"send {JSON} or {MSGPACK}",
            extra={"field": "Content-Type"},
        )
    return JSON


def _statement(sql: str) -> str:
    if not sql.strip():
        raise refuse("the statement is empty", "sql")
    if "\0" in sql:
        raise refuse("a statement holds no NUL character", "sql")
    if len(sql) > MAX_SQL or len(sql.encode("utf-8", "surrogatepass")) > MAX_SQL:
        raise Problem(
            "payload_too_large",
            f"the statement is longer than {MAX_SQL} bytes",
            hint="send large values as params",
            extra={"field": "sql"},
        )
    return sql


def _params(params: Values | None, where: str = "params") -> Values | None:
    if params is None:
        return None
    if isinstance(params, list):
        return [parameter(value, f"{where}[{index}]") for index, value in enumerate(params)]
    return {name: parameter(value, f"{where}.{name}") for name, value in params.items()}


def _field_of(message: str) -> str | None:
    match = re.search(r"`\$\.?([^`]*)`$", message)
    if match:
        return match[1] or None
    match = re.search(r"(?:unknown|required) field `([^`]*)`", message)
    return match[1] if match else None
