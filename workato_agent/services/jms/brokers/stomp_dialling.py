"""From a profile's settings to a STOMP connection that is logged in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from attrs import define, frozen
from twisted.internet.defer import TimeoutError as DeferredTimeout

from workato_tunnel.problems import Problem

from ..dialling import Dialled, Dialler
from ..settings import Address, StompSettings
from .stomp_dialects import Dialect, Headers, dialect_of
from .stomp_frames import FrameError
from .stomp_link import LinkLost, Refused, StompLink

_LOGIN: Final = re.compile(r"(?i)password|access refused|credential|login|authenticat|user name")
_BUSY: Final = re.compile(r"(?i)client.{0,40}already connected|InvalidClientID")
_DENIED: Final = re.compile(r"(?i)not authorized|access.refused|permission|denied")
_SELECTOR: Final = re.compile(r"(?i)selector")
_ABSENT: Final = re.compile(r"(?i)not.found|no such|does not exist|unknown destination")


@frozen
class Connected:
    """A connection, and what the broker says it is."""

    link: StompLink
    dialect: Dialect
    server: str
    address: Address


@define(eq=False)
class StompDialler:
    """Makes the connections of one profile."""

    _clock: Any
    _settings: StompSettings
    _dialler: Dialler

    @classmethod
    def of(cls, reactor: Any, settings: StompSettings) -> StompDialler:
        """Raises ValueError for TLS settings that can't be used, and for what no login can say."""
        for name in ("username", "password", "virtual_host"):
            if re.search(r"[\r\n\0]", getattr(settings, name) or ""):
                raise ValueError(f"{name}: holds a line end or NUL, which STOMP can't send")
        tls, timeout = settings.tls, settings.connect_timeout
        return cls(reactor, settings, Dialler.of(reactor, settings.addresses, tls, timeout))

    async def connect(self, client_id: str | None = None) -> Connected:
        """Dial and log in. Raises Problem."""

        async def attempt(address: Address) -> Connected:
            return await self._attempt(address, client_id)

        return await self._dialler.first(attempt)

    async def _attempt(self, address: Address, client_id: str | None) -> Connected:
        settings = self._settings
        until = self._clock.seconds() + settings.connect_timeout
        dialled = await self._dialler.dial(
            address, lambda: StompLink(self._clock, settings.max_message)
        )
        link = dialled.protocol
        try:
            login = link.log_in(self._headers(address, client_id))
            login.addTimeout(max(0.1, until - self._clock.seconds()), self._clock)
            headers = await login
            if headers.get("version") != "1.2":
                raise _wrong_type(address, "the broker doesn't speak STOMP 1.2")
            dialect = dialect_of(headers.get("server"))
        except DeferredTimeout:
            link.abort("no answer to CONNECT")
            raise Problem(
                "target_unreachable",
                f"{address}: connected, but no answer to the login within "
                f"{settings.connect_timeout:g} s",
                hint="check that the port is one for STOMP, and with stomp+ssl:// for TLS",
                extra={"host": address.host, "port": address.port},
            ) from None
        except Refused as error:
            _refused_login(address, str(error))
        except LinkLost as error:
            _lost_login(dialled, error)
        except BaseException:
            link.abort("the login was given up")
            raise
        self._keep_alive(link, headers)
        return Connected(link, dialect, headers.get("server", ""), address)

    def _headers(self, address: Address, client_id: str | None) -> Headers:
        settings = self._settings
        beat = round(settings.heartbeat * 1000)
        headers = [
            ("accept-version", "1.2"),
            # RabbitMQ's virtual host; ActiveMQ takes any.
            ("host", settings.virtual_host or "/"),
            ("heart-beat", f"{beat},{beat}"),
        ]
        if settings.username is not None:
            headers.append(("login", settings.username))
            headers.append(("passcode", settings.password or ""))
        if client_id is not None:
            headers.append(("client-id", client_id))
        return headers

    def _keep_alive(self, link: StompLink, headers: Mapping[str, str]) -> None:
        match = re.fullmatch(r"([0-9]{1,9}),([0-9]{1,9})", headers.get("heart-beat", "0,0"))
        sends, wants = (int(match[1]), int(match[2])) if match is not None else (0, 0)
        ours = self._settings.heartbeat
        link.keep_alive(
            max(ours, wants / 1000) if ours and wants else 0,
            max(ours, sends / 1000) if ours and sends else 0,
        )


def refusal(words: str) -> Problem:
    """A broker's ERROR in answer to a frame of ours."""
    if _SELECTOR.search(words):
        return Problem(
            "bad_request", words, hint="correct the selector", extra={"field": "selector"}
        )
    if _BUSY.search(words):
        return Problem(
            "conflict",
            words,
            hint="another agent or client holds this durable subscription; try again later",
            retry_after=5,
        )
    if _DENIED.search(words):
        return Problem("target_permission_denied", words)
    if _ABSENT.search(words):
        return Problem("target_not_found", words, hint="check the name of the queue or topic")
    return Problem("bad_request", f"the broker refuses it: {words}")


def lost(error: LinkLost, *, done: str | None = None) -> Problem:
    """A connection that broke while something was under way."""
    if isinstance(error.cause, FrameError) and error.cause.too_large:
        return Problem(
            "payload_too_large",
            f"a message on this destination is too large: {error.cause}",
            hint="raise limits.message in the agent's configuration, or take the message away",
        )
    if isinstance(error.cause, Refused):
        return refusal(str(error.cause))
    return Problem(
        "target_unreachable",
        f"the connection to the broker was lost: {error}{f'; {done}' if done else ''}",
        hint="check that the broker runs; then try again",
    )


def _refused_login(address: Address, words: str) -> NoReturn:
    extra = {"host": address.host, "port": address.port}
    if _BUSY.search(words):
        raise refusal(words)
    if _LOGIN.search(words):
        raise Problem("target_login_failed", f"{address}: {words}", extra=extra)
    raise _wrong_type(address, words)


def _lost_login(dialled: Dialled[StompLink], error: LinkLost) -> NoReturn:
    if isinstance(error.cause, FrameError):
        raise _wrong_type(dialled.address, str(error))
    raise dialled.problem(error.cause)


def _wrong_type(address: Address, words: str) -> Problem:
    return Problem(
        "target_wrong_type",
        f"{address}: {words}",
        hint="check that the port is one for STOMP",
        extra={"host": address.host, "port": address.port},
    )
