"""AMQP's error conditions (OASIS AMQP 1.0, part 2 section 2.8.15 on) as problems."""

from __future__ import annotations

from typing import Any, Final

from attrs import frozen
from proton import ProtonException

from workato_tunnel.problems import Problem

UNREADABLE: Final = (ProtonException, ValueError, TypeError, LookupError, RecursionError)
"""What proton raises for what a peer has sent: text that is no UTF-8, a map that is none."""
_LONGEST: Final = 400
_CODES: Final = {
    "amqp:not-found": "target_not_found",
    "amqp:unauthorized-access": "target_permission_denied",
    "amqp:not-allowed": "target_permission_denied",
    "amqp:resource-limit-exceeded": "overloaded",
    "amqp:resource-locked": "conflict",
    "amqp:resource-deleted": "target_not_found",
    "amqp:precondition-failed": "conflict",
    "amqp:invalid-field": "bad_request",
    "amqp:not-implemented": "bad_request",
    "amqp:link:stolen": "conflict",
    "amqp:link:message-size-exceeded": "payload_too_large",
}
_HINTS: Final = {
    "amqp:not-found": "check the name of the queue or topic, and that it has been created",
    "amqp:unauthorized-access": "grant the profile's user the right on this queue or topic",
    "amqp:not-allowed": "look at the broker's rules for the profile's user",
    "amqp:link:stolen": "another client has the same client_id and subscription",
}


@frozen
class Condition:
    """Why the other side refused or ended something.

    :ivar name: the symbol, as ``amqp:not-found``.
    :ivar text: in the broker's words.
    """

    name: str
    text: str = ""

    @classmethod
    def of(cls, condition: Any) -> Condition | None:
        """From proton's, which may be None."""
        if condition is None:
            return None
        words = "".join(c if c.isprintable() else " " for c in condition.description or "")
        return cls(str(condition.name), words[:_LONGEST])

    def __str__(self) -> str:
        return f"{self.text} ({self.name})" if self.text else self.name


def condition_problem(where: str, condition: Condition | None, what: str) -> Problem:
    """The problem for something that the broker ended.

    :param where: which broker.
    :param what: what it ended, and how: "refused the queue a".
    """
    if condition is None:
        return Problem("target_unreachable", f"{where}: the broker {what} without a reason")
    code = _CODES.get(condition.name, "target_unreachable")
    return Problem(
        code, f"{where}: the broker {what}: {condition}", hint=_HINTS.get(condition.name)
    )


def refused_login(where: str, condition: Condition | None, offered: str) -> Problem:
    """SASL came to no good end."""
    words = f": {condition.text}" if condition is not None and condition.text else ""
    return Problem(
        "target_login_failed",
        f"{where}: the broker refused the login by {offered}{words}",
        hint="check the profile's username and password, and which SASL mechanisms the broker has",
    )


def wrong_type(where: str, who: str | None, hint: str | None = None) -> Problem:
    """Somebody else answered."""
    answers = f"{who} answers there" if who else "what answers there"
    return Problem(
        "target_wrong_type",
        f"{where}: {answers}{', not AMQP 1.0' if who else ' is not AMQP 1.0'}",
        hint=hint or "check host and port in the profile's url",
    )
