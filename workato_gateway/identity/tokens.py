"""Bearer tokens: what a caller may do, and who an ``Authorization`` header speaks for.

A token is ``onprem_`` and 256 random bits. Only its SHA-256 is kept, so a copy of the store opens
nothing. Scopes are ``GROUP:SERVICE:PROFILE:METHOD``, each part a name or ``*``, or ``admin``, which
covers the administration of the gateway and, on purpose, no call to an agent.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Callable
from typing import Final

from attrs import field, frozen

from workato_tunnel.problems import Problem

from ..storage.interface import Store, Token, Transaction

PREFIX: Final = "onprem_"
_TOKEN: Final = re.compile(PREFIX + r"[A-Za-z0-9_-]{43}")
_OWNER: Final = re.compile(r"[^\x00-\x1f\x7f]{1,128}")
ADMIN: Final = "admin"
ANY: Final = "*"

_PART: Final = re.compile(r"\*|[A-Za-z0-9_.-]{1,64}")
_METHOD: Final = re.compile(r"\*|[A-Z]{1,16}")
_FORM: Final = "write GROUP:SERVICE:PROFILE:METHOD, each part a name or *, or the word admin"


class ScopeError(ValueError):
    """A scope that doesn't read as one; the message says which and why."""


@frozen
class Scope:
    """One permission: a call is covered when each part is equal or ``*``. Case matters."""

    group: str
    service: str
    profile: str
    method: str

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read ``GROUP:SERVICE:PROFILE:METHOD``. The method may be in lower case.

        Raises ScopeError.
        """
        parts = text.strip().split(":")
        if len(parts) != 4:
            raise ScopeError(f"scope {text!r} has {len(parts)} of 4 parts: {_FORM}")
        for name, part in zip(("group", "service", "profile"), parts, strict=False):
            if not _PART.fullmatch(part):
                raise ScopeError(f"scope {text!r}: {part!r} is no {name}: {_FORM}")
        method = parts[3].upper()
        if not _METHOD.fullmatch(method):
            raise ScopeError(f"scope {text!r}: {parts[3]!r} is no HTTP method: {_FORM}")
        return cls(parts[0], parts[1], parts[2], method)

    def __str__(self) -> str:
        return f"{self.group}:{self.service}:{self.profile}:{self.method}"


def canonical_scopes(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The scopes as they are stored: checked, without repetition, sorted. Raises ScopeError."""
    if not texts:
        raise ScopeError(f"a token without a scope covers nothing: {_FORM}")
    return tuple(sorted({t if t == ADMIN else str(Scope.parse(t)) for t in texts}))


@frozen
class Caller:
    """Who calls. ``scopes`` are canonical texts (:func:`canonical_scopes`)."""

    owner: str
    token_id: str
    scopes: tuple[str, ...]
    is_admin: bool = field(init=False)
    """May administer the gateway (scope ``admin``)."""
    _permissions: tuple[Scope, ...] = field(init=False, repr=False, eq=False)

    @is_admin.default
    def _admin_among_scopes(self) -> bool:
        return ADMIN in self.scopes

    @_permissions.default
    def _parsed_scopes(self) -> tuple[Scope, ...]:
        return tuple(Scope.parse(text) for text in self.scopes if text != ADMIN)

    def allows(self, group: str, service: str, profile: str, method: str) -> bool:
        """Whether a scope covers this call. ``method`` in upper case."""
        for scope in self._permissions:
            if (
                scope.group in (ANY, group)
                and scope.service in (ANY, service)
                and scope.profile in (ANY, profile)
                and scope.method in (ANY, method)
            ):
                return True
        return False


def token_digest(text: str) -> bytes:
    """What the store keeps of a token."""
    return hashlib.sha256(text.encode("ascii")).digest()


def issue_token(
    transaction: Transaction,
    *,
    owner: str,
    scopes: tuple[str, ...],
    expires: float | None,
    now: float,
) -> tuple[Token, str]:
    """Make a token; returns its row and its text, which exists nowhere else.

    ``expires``: Unix seconds. Raises ScopeError; ValueError for an owner or time that can't be.
    """
    if not _OWNER.fullmatch(owner):
        raise ValueError("an owner is 1 to 128 printable characters")
    if expires is not None and expires <= now:
        raise ValueError("the token would have expired already")
    text = PREFIX + secrets.token_urlsafe(32)
    token = Token(
        id=secrets.token_hex(6),
        owner=owner,
        digest=token_digest(text),
        scopes=canonical_scopes(scopes),
        created=now,
        expires=expires,
    )
    transaction.add_token(token)
    return token, text


@frozen
class _Entry:
    caller: Caller
    expires: float | None
    revoked: bool


class Tokens:
    """Tells who calls, from memory: no call waits for the store.

    :meth:`refresh` after every change of a token; expiry is looked at on each use.
    """

    def __init__(self, store: Store, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now
        self._entries: dict[bytes, _Entry] = {}
        self._used: dict[str, float] = {}

    async def refresh(self) -> None:
        """Take over what the store holds."""
        tokens = await self._store.read(lambda transaction: transaction.tokens())
        self._entries = {
            token.digest: _Entry(
                Caller(token.owner, token.id, token.scopes),
                token.expires,
                token.revoked is not None,
            )
            for token in tokens
        }

    def authenticate(self, authorization: str | None) -> Caller:
        """The caller behind an ``Authorization`` field. Raises Problem ``unauthenticated``.

        A hash and a look into a table: the text of a token is never kept or compared.
        """
        if authorization is None:
            raise Problem(
                "unauthenticated",
                "the request has no Authorization field",
                hint="send Authorization: Bearer TOKEN",
            )
        scheme, _, text = authorization.partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not _TOKEN.fullmatch(text):
            raise self._malformed(scheme)
        entry = self._entries.get(token_digest(text))
        if entry is None:
            raise Problem(
                "unauthenticated",
                "the token is unknown here",
                hint="check that it was made by this gateway and copied whole",
            )
        now = self._now()
        if entry.revoked:
            raise Problem(
                "unauthenticated",
                "the token has been revoked",
                hint="ask the gateway's operator for a new one",
            )
        if entry.expires is not None and entry.expires <= now:
            raise Problem(
                "unauthenticated",
                "the token has expired",
                hint="ask the gateway's operator for a new one",
            )
        self._used[entry.caller.token_id] = now
        return entry.caller

    @staticmethod
    def _malformed(scheme: str) -> Problem:
        if scheme.lower() != "bearer":
            return Problem(
                "unauthenticated",
                "the Authorization field has another scheme than Bearer",
                hint="send Authorization: Bearer TOKEN",
            )
        return Problem(
            "unauthenticated",
            "the bearer token is malformed",
            hint=f"a token is {PREFIX} and 43 characters; check that it was copied whole",
        )

    async def store_uses(self) -> None:
        """Write down when tokens were used last, since the previous time."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._store.write(lambda transaction: transaction.record_token_use(used))
        except BaseException:
            self._used = used | self._used
            raise
