"""The rows of the SQLite store: each record beside the statements that read and write it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from .interface import (
    ActivationCodeRecord,
    Agent,
    Attendance,
    AuditEntry,
    Certificate,
    Changes,
    Group,
    Kind,
    NameTakenError,
    Token,
)

_AGENT: Final = (
    "id, group_name, name, created, enabled, revoked, serial, certificate_expires, connected, "
    "last_seen, last_address, catalogue"
)
_CODE: Final = "digest, group_name, agent_id, created, created_by, expires, used_at"
_CERTIFICATE: Final = "serial, agent_id, issued, not_after, revoked"
_TOKEN: Final = "id, owner, digest, scopes, created, expires, revoked, last_used"  # noqa: S105
_AUDIT: Final = "at, actor, address, action, subject, detail, seq"
CHANGES_KEPT: Final = 600.0
"""Seconds for which a change is remembered; who asks later looks at everything."""


def _agent(row: Any) -> Agent:
    key, group, name, created, enabled, revoked, serial, expires, connected, *seen = row
    return Agent(
        key, group, name, created, bool(enabled), revoked, serial, expires, bool(connected), *seen
    )


def _token(row: Any) -> Token:
    key, owner, digest, scopes, *times = row
    return Token(key, owner, digest, tuple(json.loads(scopes)), *times)


def _audit_entry(row: Any) -> AuditEntry:
    at, actor, address, action, subject, detail, seq = row
    return AuditEntry(at, actor, address, action, subject, json.loads(detail), seq)


class SqliteTransaction:
    """A :class:`workato_gateway.storage.interface.Transaction`; valid inside its unit of work."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def _all(self, sql: str, *parameters: object) -> list[Any]:
        return self._connection.execute(sql, parameters).fetchall()

    def _one(self, sql: str, *parameters: object) -> Any:
        return self._connection.execute(sql, parameters).fetchone()

    def _write(self, sql: str, *parameters: object) -> int:
        return self._connection.execute(sql, parameters).rowcount

    def _insert(self, sql: str, name: str, *parameters: object) -> None:
        try:
            self._connection.execute(sql, parameters)
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorname.startswith(
                ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY")
            ):
                raise NameTakenError(name) from error
            raise

    def _changed(self, kind: Kind, key: str) -> None:
        now = time.time()
        self._write("DELETE FROM changes WHERE at < ?", now - CHANGES_KEPT)
        self._write("INSERT INTO changes (at, kind, key) VALUES (?, ?, ?)", now, kind.value, key)

    # Groups

    def groups(self) -> list[Group]:
        """By name."""
        rows = self._all("SELECT name, allowed_networks, created FROM groups ORDER BY name")
        return [Group(n, tuple(json.loads(a)), c) for n, a, c in rows]

    def group(self, name: str) -> Group | None:
        """None where there is none."""
        row = self._one("SELECT name, allowed_networks, created FROM groups WHERE name = ?", name)
        return Group(row[0], tuple(json.loads(row[1])), row[2]) if row else None

    def add_group(self, group: Group) -> None:
        """Raises NameTakenError."""
        self._insert(
            "INSERT INTO groups (name, allowed_networks, created) VALUES (?, ?, ?)",
            group.name,
            group.name,
            json.dumps(group.allowed_networks),
            group.created,
        )
        self._changed(Kind.GROUP, group.name)

    def set_allowed_networks(self, name: str, networks: Sequence[str]) -> None:
        """Replaces the list."""
        self._write(
            "UPDATE groups SET allowed_networks = ? WHERE name = ?", json.dumps(networks), name
        )
        self._changed(Kind.GROUP, name)

    def delete_group(self, name: str) -> None:
        """With its codes."""
        self._write("DELETE FROM activation_codes WHERE group_name = ?", name)
        self._write("DELETE FROM groups WHERE name = ?", name)
        self._changed(Kind.GROUP, name)

    # Agents

    def agents(self, group: str | None = None, *, revoked: bool = False) -> list[Agent]:
        """By group and name."""
        rows = self._all(
            f"SELECT {_AGENT} FROM agents WHERE (?1 IS NULL OR group_name = ?1)"  # noqa: S608
            " AND (?2 OR revoked IS NULL) ORDER BY group_name, name, created",
            group,
            revoked,
        )
        return [_agent(row) for row in rows]

    def agent(self, agent_id: str) -> Agent | None:
        """Revoked ones too."""
        row = self._one(f"SELECT {_AGENT} FROM agents WHERE id = ?", agent_id)  # noqa: S608
        return _agent(row) if row else None

    def agent_named(self, group: str, name: str) -> Agent | None:
        """Not the revoked ones."""
        row = self._one(
            f"SELECT {_AGENT} FROM agents"  # noqa: S608
            " WHERE group_name = ? AND name = ? AND revoked IS NULL",
            group,
            name,
        )
        return _agent(row) if row else None

    def add_agent(self, agent: Agent) -> None:
        """Raises NameTakenError."""
        self._insert(
            "INSERT INTO agents (id, group_name, name, created, enabled) VALUES (?, ?, ?, ?, ?)",
            agent.name,
            agent.id,
            agent.group,
            agent.name,
            agent.created,
            agent.enabled,
        )
        self._changed(Kind.AGENT, agent.id)

    def set_enabled(self, agent_id: str, enabled: bool) -> None:
        """Disabled agents are not admitted."""
        self._write("UPDATE agents SET enabled = ? WHERE id = ?", enabled, agent_id)
        self._changed(Kind.AGENT, agent_id)

    def revoke_agent(self, agent_id: str, at: float) -> None:
        """Its name is free afterwards."""
        self._write(
            "UPDATE agents SET revoked = ?, connected = 0 WHERE id = ? AND revoked IS NULL",
            at,
            agent_id,
        )
        self._write("DELETE FROM activation_codes WHERE agent_id = ? AND used_at IS NULL", agent_id)
        self.revoke_certificates(agent_id, at)

    def record_attendance(self, seen: Sequence[Attendance]) -> None:
        """One statement for all."""
        self._connection.executemany(
            "UPDATE agents SET last_seen = ?, connected = ?,"
            " last_address = coalesce(?, last_address), catalogue = coalesce(?, catalogue)"
            " WHERE id = ? AND revoked IS NULL",
            [(s.at, s.connected, s.address, s.catalogue, s.agent_id) for s in seen],
        )

    def forget_attendance(self) -> None:
        self._connection.execute("UPDATE agents SET connected = 0 WHERE connected")

    # Activation codes

    def add_code(self, code: ActivationCodeRecord) -> None:
        """Codes are random: one that is there already is a bug."""
        self._write(
            f"INSERT INTO activation_codes ({_CODE}) VALUES (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            code.digest,
            code.group,
            code.agent_id,
            code.created,
            code.created_by,
            code.expires,
            code.used_at,
        )

    def code(self, digest: bytes) -> ActivationCodeRecord | None:
        """Used and expired ones too, while they are kept."""
        row = self._one(f"SELECT {_CODE} FROM activation_codes WHERE digest = ?", digest)  # noqa: S608
        return ActivationCodeRecord(*row) if row else None

    def use_code(self, digest: bytes, at: float) -> bool:
        """The condition in the statement makes one of two win."""
        return (
            self._write(
                "UPDATE activation_codes SET used_at = ? WHERE digest = ? AND used_at IS NULL",
                at,
                digest,
            )
            == 1
        )

    def delete_codes_expired_before(self, at: float) -> None:
        """Used or not."""
        self._write("DELETE FROM activation_codes WHERE expires < ?", at)

    # Certificates

    def add_certificate(self, certificate: Certificate) -> None:
        """The newest of its agent from now on."""
        self._write(
            f"INSERT INTO certificates ({_CERTIFICATE}) VALUES (?, ?, ?, ?, ?)",  # noqa: S608
            certificate.serial,
            certificate.agent_id,
            certificate.issued,
            certificate.not_after,
            certificate.revoked,
        )
        self._write(
            "UPDATE agents SET serial = ?, certificate_expires = ? WHERE id = ?",
            certificate.serial,
            certificate.not_after,
            certificate.agent_id,
        )

    def certificate(self, serial: str) -> Certificate | None:
        """None for a serial that this gateway did not issue, or that expired long ago."""
        row = self._one(f"SELECT {_CERTIFICATE} FROM certificates WHERE serial = ?", serial)  # noqa: S608
        return Certificate(*row) if row else None

    def certificates_issued_since(self, agent_id: str, at: float) -> int:
        """How many."""
        row = self._one(
            "SELECT count(*) FROM certificates WHERE agent_id = ? AND issued >= ?", agent_id, at
        )
        return row[0] if row else 0

    def revoke_certificates(self, agent_id: str, at: float) -> None:
        """All of the agent's."""
        self._write(
            "UPDATE certificates SET revoked = ? WHERE agent_id = ? AND revoked IS NULL",
            at,
            agent_id,
        )
        self._changed(Kind.AGENT, agent_id)

    def delete_certificates_expired_before(self, at: float) -> None:
        """TLS refuses an expired one without asking the store."""
        self._write("DELETE FROM certificates WHERE not_after < ?", at)

    # Tokens

    def tokens(self) -> list[Token]:
        """Oldest first; revoked and expired ones too."""
        rows = self._all(f"SELECT {_TOKEN} FROM tokens ORDER BY created, id")  # noqa: S608
        return [_token(row) for row in rows]

    def token(self, token_id: str) -> Token | None:
        """None where there is none."""
        row = self._one(f"SELECT {_TOKEN} FROM tokens WHERE id = ?", token_id)  # noqa: S608
        return _token(row) if row else None

    def add_token(self, token: Token) -> None:
        """Tokens are random: one that is there already is a bug."""
        self._write(
            f"INSERT INTO tokens ({_TOKEN}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            token.id,
            token.owner,
            token.digest,
            json.dumps(token.scopes),
            token.created,
            token.expires,
            token.revoked,
            token.last_used,
        )
        self._changed(Kind.TOKEN, token.id)

    def revoke_token(self, token_id: str, at: float) -> None:
        """The first time counts."""
        self._write("UPDATE tokens SET revoked = ? WHERE id = ? AND revoked IS NULL", at, token_id)
        self._changed(Kind.TOKEN, token_id)

    def record_token_use(self, used: Mapping[str, float]) -> None:
        """Times of the last use by token id."""
        self._connection.executemany(
            "UPDATE tokens SET last_used = ? WHERE id = ?", [(at, key) for key, at in used.items()]
        )

    # Audit

    def add_audit(self, entry: AuditEntry) -> None:
        """Its ``seq`` is given here."""
        self._write(
            "INSERT INTO audit (at, actor, address, action, subject, detail)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            entry.at,
            entry.actor,
            entry.address,
            entry.action,
            entry.subject,
            json.dumps(entry.detail),
        )

    def audit(self, *, limit: int, before: int | None = None) -> list[AuditEntry]:
        """Newest first."""
        rows = self._all(
            f"SELECT {_AUDIT} FROM audit"  # noqa: S608
            " WHERE ?1 IS NULL OR seq < ?1 ORDER BY seq DESC LIMIT ?2",
            before,
            limit,
        )
        return [_audit_entry(row) for row in rows]

    def audit_after(self, seq: int, *, limit: int) -> list[AuditEntry]:
        """Oldest first."""
        rows = self._all(
            f"SELECT {_AUDIT} FROM audit WHERE seq > ? ORDER BY seq LIMIT ?",  # noqa: S608
            seq,
            limit,
        )
        return [_audit_entry(row) for row in rows]

    def delete_audit_before(self, at: float) -> None:
        """Old entries."""
        self._write("DELETE FROM audit WHERE at < ?", at)

    # Changes

    def changes_after(self, point: int | None) -> Changes:
        """See the interface. The sequence has no gaps, as there is one writer at a time."""
        row = self._one("SELECT seq FROM sqlite_sequence WHERE name = 'changes'")
        latest: int = row[0] if row else 0
        if point is None or point == latest:
            return Changes(latest)
        rows = self._all("SELECT kind, key FROM changes WHERE seq > ? AND seq <= ?", point, latest)
        subjects = frozenset((Kind(kind), str(key)) for kind, key in rows)
        return Changes(latest, subjects, complete=len(rows) == latest - point)
