"""Calls to agents: from a request's head to a stream (``docs/http-api.md``, "Calls")."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, Protocol
from urllib.parse import unquote

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime

from workato_tunnel.errors import HeadTooLarge
from workato_tunnel.frames import Open
from workato_tunnel.problems import Problem

from ..agents.affinity import pinned_agent
from ..agents.calls import Call
from ..agents.groups import Candidate, candidates
from ..identity.tokens import Caller
from .exchange import Exchange
from .heads import head_too_large

Authenticate = Callable[[str | None], Caller]
"""From an ``Authorization`` field (or None) to who calls. Raises Problem ``unauthenticated``."""

_UPGRADE: Final = ("upgrade", "websocket")
_TIMEOUT: Final = re.compile(r"[0-9]{1,7}(?:\.[0-9]{1,6})?")


class Agents(Protocol):
    """Who is connected (:class:`workato_gateway.agents.registry.Registry`)."""

    def group(self, group: str) -> Sequence[Candidate]:
        """The live agents of a group."""


@frozen
class RelayLimits:
    """What the relay allows: calls in flight, and seconds.

    :ivar body: bytes of a request's body; None: any number.
    :ivar grace: how much longer than the agent the gateway waits; the agent's own answer at the
        deadline says more.
    """

    calls: int = 10_000
    calls_per_token: int = 1_000
    default_timeout: float = 60.0
    max_timeout: float = 86_400.0
    body: int | None = None
    grace: float = 1.0


@define
class Relay:
    """Authenticates, authorises, picks an agent and begins the call.

    :ivar known_group: whether a group of that name exists.
    """

    registry: Agents
    authenticate: Authenticate
    known_group: Callable[[str], bool]
    clock: IReactorTime
    limits: RelayLimits = field(factory=RelayLimits)
    calls: int = field(init=False, default=0)
    """Calls in flight."""
    _calls_of_token: dict[str, int] = field(init=False, factory=dict)

    def begin(self, exchange: Exchange, segments: list[str]) -> None:
        """Begin a call.

        :param segments: of the raw path, split at no more than six slashes: ``["", "v1", "groups",
            group, service, profile]`` and the rest where there is one.

        Raises Problem; nothing has reached an agent then.
        """
        head = exchange.head
        group, service, profile = (_segment(text) for text in segments[3:6])
        caller = self.authenticate(head.control.get("authorization"))
        exchange.owner = caller.owner
        if not caller.allows(group, service, profile, head.method):
            raise Problem(
                "forbidden",
                f"the token has no scope {group}:{service}:{profile}:{head.method}",
                hint="Ask the gateway's administrator for a token with this scope.",
            )
        if not self.known_group(group):
            raise Problem(
                "group_not_found",
                f"there is no group {group!r}",
                hint="`workato-gateway group list` shows the groups.",
            )
        exchange.group = group
        if self.limits.body is not None and not head.upgrade:
            exchange.limit_body(self.limits.body)
        _, _, query = head.target.partition("?")
        limits = self.limits
        usual = limits.max_timeout if head.upgrade else limits.default_timeout
        timeout, query = self._timeout(head.control.get("x-timeout"), query, usual)
        path = "" if len(segments) == 6 else segments[6] or "/"
        keeper = pinned_agent(service, path)
        agents = candidates(
            self.registry.group(group),
            group,
            service,
            profile,
            keeper or head.control.get("x-agent"),
            kept=keeper is not None,
        )
        exchange.service = service
        request = Open(
            service=service,
            profile=profile,
            method=head.method,
            path=path,
            query=query,
            headers=(*head.fields, _UPGRADE) if head.upgrade else tuple(head.fields),
            caller=caller.owner,
            timeout=int(timeout * 1000),
            trace=exchange.trace,
            request_id=exchange.request_id,
        )
        self._count_in(exchange, caller.token_id)
        seconds = self.clock.seconds
        deadline = exchange.started + timeout
        call = Call(
            exchange,
            request,
            agents,
            has_body=head.has_body,
            upgrade=head.upgrade,
            deadline=deadline,
            seconds=seconds,
        )
        exchange.listener = call
        exchange.expire_at(deadline + self.limits.grace)
        try:
            call.begin()
        except HeadTooLarge:
            raise head_too_large("the tunnel takes heads of up to 60 KiB") from None

    def _count_in(self, exchange: Exchange, token_id: str) -> None:
        limits = self.limits
        of_token = self._calls_of_token.get(token_id, 0)
        if self.calls >= limits.calls:
            raise Problem(
                "overloaded",
                f"the gateway relays {limits.calls} calls at a time",
                hint="Try again shortly.",
                retry_after=1,
            )
        if of_token >= limits.calls_per_token:
            raise Problem(
                "overloaded",
                f"this token has {limits.calls_per_token} calls in flight, its limit",
                hint="Wait for one of them to end.",
                retry_after=1,
            )
        self.calls += 1
        self._calls_of_token[token_id] = of_token + 1
        exchange.token_id = token_id
        exchange.relayed = True

    def ended(self, exchange: Exchange) -> None:
        """A call that was counted in has ended."""
        self.calls -= 1
        left = self._calls_of_token[exchange.token_id] - 1
        if left:
            self._calls_of_token[exchange.token_id] = left
        else:
            del self._calls_of_token[exchange.token_id]

    def _timeout(self, field_value: str | None, query: str, usual: float) -> tuple[float, str]:
        """The call's time in seconds, and the query without it. It goes before ``X-Timeout``.

        :param usual: where neither says anything.
        """
        text, name = field_value, "X-Timeout"
        if "timeout=" in query:
            pairs = query.split("&")
            given = [pair for pair in pairs if pair.startswith("timeout=")]
            if given:
                if len(given) > 1:
                    raise Problem(
                        "bad_request",
                        "timeout is there twice in the query",
                        hint="Give it once.",
                        extra={"field": "timeout"},
                    )
                text, name = given[0].removeprefix("timeout="), "timeout"
                query = "&".join(pair for pair in pairs if not pair.startswith("timeout="))
        if text is None:
            return usual, query
        seconds = float(text) if _TIMEOUT.fullmatch(text) else 0.0
        if not 0.001 <= seconds <= self.limits.max_timeout:
            raise Problem(
                "bad_request",
                f"{name} is no number of seconds above 0 and at most {self.limits.max_timeout:g}",
                hint=f"For example {name}{'=' if name == 'timeout' else ': '}30",
                extra={"field": name},
            )
        return seconds, query


def _segment(text: str) -> str:
    """A decoded path segment. Raises Problem ``bad_request``."""
    if "%" not in text:
        return text
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise Problem(
            "bad_request", f"the path segment {text!r} is not UTF-8", hint="Percent-encode UTF-8."
        ) from None
