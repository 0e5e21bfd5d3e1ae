"""What a profile's policy lets callers ask of the database: ``adhoc``, ``read_only``, ``tables``.

The database's own means come first (a read-only transaction, the rights of the profile's user).
What is here is decided before a statement is sent: it closes the ways around those means, and it
holds where the database has none. Whatever can't be understood is refused.
"""

from __future__ import annotations

from typing import Final, Self

from attrs import frozen

from workato_tunnel.problems import Problem

from .guard_readonly import call_reason, reason
from .settings import DatabasePolicy
from .statements import Dialect, Statement, TableName

NAMED: Final = "queries"
"""The operation whose statements the customer wrote: ``adhoc`` and ``tables`` don't apply."""


@frozen
class Guard:
    """Judges what a caller asks of one profile. Every method raises Problem ``policy_denied``.

    The problem's ``rule`` is ``adhoc``, ``read_only`` or ``tables``.
    """

    _policy: DatabasePolicy
    _product: str
    _dialect: Dialect

    @classmethod
    def of(cls, policy: DatabasePolicy, product: str, dialect: Dialect) -> Self:
        """The guard of a profile: its policy, and its adapter's ``type`` and ``dialect``."""
        return cls(policy, product, dialect)

    def check_statement(self, statement: Statement, operation: str) -> None:
        """A statement, bound to its values, also one of a session.

        ``operation`` is ``query``, ``execute``, ``batch`` or ``queries`` for a named one. Takes
        time for a long statement: see :meth:`slow`.
        """
        if operation != NAMED and not self._policy.adhoc:
            raise _denied(
                "adhoc",
                f"{operation} with a statement of the caller's own is not allowed",
                "the profile's policy allows named queries only: call queries/NAME",
            )
        if self._policy.read_only:
            self._deny_writing(reason(statement.sql, self._dialect, self._product))

    def check_table(self, table: TableName, operation: str) -> None:
        """A table that ``load`` writes or ``schema`` shows."""
        if operation == "load" and self._policy.read_only:
            self._deny_writing("load writes")

    def check_procedure(self, procedure: TableName) -> None:
        """A procedure or function that ``call`` runs."""
        if self._policy.read_only:
            self._deny_writing(call_reason(procedure, self._product))

    def shows(self, table: TableName) -> bool:
        """Whether the list of tables may name this one."""
        return True

    def slow(self, statement: Statement) -> bool:
        """Whether the check of a statement is better run in a thread."""
        return len(statement.sql) > 4096

    def _deny_writing(self, why: str | None) -> None:
        if why is not None:
            raise _denied("read_only", why, "the profile's policy is read_only: send one query")


def _denied(rule: str, detail: str, hint: str) -> Problem:
    return Problem("policy_denied", detail, hint=hint, extra={"rule": rule})
