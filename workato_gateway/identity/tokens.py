"""Bearer tokens: what a caller may do, and who an ``Authorization`` header speaks for.

A token is ``onprem_`` and 256 random bits. Only its SHA-256 is kept, so a copy of the store opens
nothing. Scopes are ``GROUP:SERVICE:PROFILE:METHOD``, each part a name or ``*``, or ``admin``, which
covers the administration of the gateway and, on purpose, no call to an agent.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import field, frozen

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
