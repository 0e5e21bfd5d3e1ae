"""``/v1/tokens`` and ``/v1/audit``."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from workato_tunnel.problems import Problem

from ..identity.tokens import ScopeError, issue_token
from ..storage.interface import AuditEntry, Store, Token, Transaction
from .documents import Changed, Now, audit, bad_field, moment, read_body
from .messages import AdminRequest, AdminResponse

MAX_LIFETIME: Final = 100 * 365 * 86400.0
MAX_SCOPES: Final = 100
AUDIT_PAGE: Final = 100
MAX_AUDIT_PAGE: Final = 1000


class NewToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/tokens``; ``expires_in`` in seconds, absent: never."""

    owner: str
    scopes: list[str]
    expires_in: float | None = None


def _document(token: Token, now: float) -> dict[str, object]:
    expired = token.expires is not None and token.expires <= now
    return {
        "id": token.id,
        "owner": token.owner,
        "scopes": token.scopes,
        "status": "revoked" if token.revoked is not None else "expired" if expired else "valid",
        "created": moment(token.created),
        "expires": moment(token.expires),
        "revoked": moment(token.revoked),
        "last_used": moment(token.last_used),
    }


class TokenResource:
    """``/v1/tokens``."""

    def __init__(self, store: Store, changed: Changed, now: Now = time.time) -> None:
        self._store = store
        self._changed = changed
        self._now = now

    async def list(self, request: AdminRequest) -> AdminResponse:
        """All tokens, oldest first; never their texts."""
        tokens = await self._store.read(lambda transaction: transaction.tokens())
        now = self._now()
        return AdminResponse(200, {"tokens": [_document(token, now) for token in tokens]})

    async def create(self, request: AdminRequest) -> AdminResponse:
        """A new one. Its text is in this answer and nowhere else."""
        wanted = read_body(request, NewToken)
        if len(wanted.scopes) > MAX_SCOPES:
            raise bad_field("scopes", f"has more than {MAX_SCOPES} entries")
        lifetime = wanted.expires_in
        if lifetime is not None and not 0 < lifetime <= MAX_LIFETIME:
            raise bad_field("expires_in", "expected seconds between 0 and a hundred years")

        def thd_create(transaction: Transaction) -> tuple[Token, str]:
            now = self._now()
            token, text = issue_token(
                transaction,
                owner=wanted.owner,
                scopes=tuple(wanted.scopes),
                expires=None if lifetime is None else now + lifetime,
                now=now,
            )
            detail = {"owner": token.owner, "scopes": token.scopes}
            audit(transaction, request, "token.create", token.id, detail, self._now)
            return token, text

        try:
            token, text = await self._store.write(thd_create)
        except ScopeError as error:
            raise bad_field("scopes", str(error)) from error
        except ValueError as error:
            raise bad_field("owner", str(error)) from error
        await self._changed()
        return AdminResponse(
            201,
            {"token": text, **_document(token, self._now())},
            (("location", f"/v1/tokens/{token.id}"), ("cache-control", "no-store")),
        )

    async def read(self, request: AdminRequest) -> AdminResponse:
        """One token."""
        token = await self._store.read(lambda rows: _existing(rows, request.path[1]))
        return AdminResponse(200, _document(token, self._now()))

    async def revoke(self, request: AdminRequest) -> AdminResponse:
        """For good; it is refused from the moment this answers."""
        token_id = request.path[1]

        def thd_revoke(transaction: Transaction) -> None:
            token = _existing(transaction, token_id)
            transaction.revoke_token(token_id, self._now())
            detail = {"owner": token.owner}
            audit(transaction, request, "token.revoke", token_id, detail, self._now)

        await self._store.write(thd_revoke)
        await self._changed()
        return AdminResponse(204)


def _existing(transaction: Transaction, token_id: str) -> Token:
    token = transaction.token(token_id)
    if token is None:
        raise Problem("not_found", f"there is no token {token_id!r}")
    return token


class AuditResource:
    """``/v1/audit``: what administrators did, newest first."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def list(self, request: AdminRequest) -> AdminResponse:
        """A page: ``?limit=`` (100; at most 1000), ``?before=`` the ``next`` of the page before."""
        limit = _number(request, "limit", AUDIT_PAGE)
        before = _number(request, "before", 0)
        if limit is None or not 1 <= limit <= MAX_AUDIT_PAGE:
            raise bad_field("limit", f"expected a number from 1 to {MAX_AUDIT_PAGE}")
        entries = await self._store.read(
            lambda transaction: transaction.audit(limit=limit, before=before or None)
        )
        following = entries[-1].seq if len(entries) == limit else None
        return AdminResponse(
            200, {"entries": [_entry(entry) for entry in entries], "next": following}
        )


def _number(request: AdminRequest, name: str, default: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise bad_field(name, f"expected a number, not {text[:32]!r}")
    return int(text)


def _entry(entry: AuditEntry) -> dict[str, object]:
    return {
        "seq": entry.seq,
        "at": moment(entry.at),
        "actor": entry.actor,
        "address": entry.address,
        "action": entry.action,
        "subject": entry.subject,
        "detail": entry.detail,
    }
