"""Exceptions of JMS libraries as problems: the library's words, and what to do about them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, Literal
from urllib.parse import unquote

from attrs import frozen

from workato_tunnel.problems import Problem

from ..settings import JavaSettings
from .jms_java_text import text_of

Stage = Literal["connecting", "working"]

_LONGEST: Final = 1000
_MOST_CAUSES: Final = 12
_WRAPPERS: Final = ("java.lang.reflect.InvocationTargetException",)
_SECRET_NAMES: Final = re.compile(r"pass|pwd|secret|token|key|credential", re.IGNORECASE)
_IN_URLS: Final = re.compile(
    r"(?:[?&;,(]\s*[^=?&;,()]*(?:pass|pwd|secret|token|key|credential)[^=?&;,()]*=([^&;,)]+))"
    r"|(?://[^/@:,()?]*:([^/@,()]+)@)",
    re.IGNORECASE,
)
_PREFIX: Final = re.compile(r"^Could not connect to broker URL: \S+ Reason: ")  # ActiveMQ's
_ADDRESS: Final = re.compile(r"://(?:[^/@,]*@)?(\[[^\]]+\]|[^/:;?,@()]+)(:\d+)?")


@frozen
class Fault:
    """A Java exception, taken apart.

    :ivar classes: of it, of its causes and of what JMS calls linked exceptions, outermost first.
    :ivar messages: theirs; empty where one has none.
    """

    classes: Sequence[str]
    messages: Sequence[str]

    @property
    def text(self) -> str:
        """The messages that say something, each once, bounded."""
        said: list[str] = []
        for name, message in zip(self.classes, self.messages, strict=True):
            words = _PREFIX.sub("", message).strip() or name.rpartition(".")[2]
            if name in _WRAPPERS and len(self.classes) > 1:
                continue
            if not any(words in other for other in said):
                said.append(words)
        text = ": ".join(said)
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"

    @property
    def everything(self) -> str:
        """Every class and message, to look for signs in."""
        return "\n".join((*self.classes, *self.messages))

    def has(self, *names: str) -> bool:
        """Whether one of the exceptions is of a class of that plain name."""
        return any(each.rpartition(".")[2] in names for each in self.classes)


def fault(error: Any) -> Fault:
    """Take an exception apart."""
    found = list(_causes(error))
    messages = (each.getMessage() for each in found)
    return Fault(
        [str(each.getClass().getName()) for each in found],
        ["" if message is None else text_of(message) for message in messages],
    )


def _causes(error: Any) -> Iterator[Any]:
    ahead, seen = [error], 0
    while ahead and seen < _MOST_CAUSES:
        each = ahead.pop(0)
        yield each
        seen += 1
        for getter in ("getCause", "getLinkedException", "getRootCause"):
            if hasattr(each, getter):
                cause = getattr(each, getter)()
                if cause is not None and not any(cause.equals(other) for other in ahead):
                    ahead.append(cause)


def address(settings: JavaSettings) -> str:
    """Where the profile leads, as an administrator would say it; never a URL's options."""
    texts = [*settings.properties.values()]
    if settings.jndi is not None:
        texts = [settings.jndi.url or "", *texts]
    found = [match[1] + (match[2] or "") for text in texts for match in _ADDRESS.finditer(text)]
    if found:
        return ", ".join(dict.fromkeys(found))
    named = {name.lower(): value for name, value in settings.properties.items()}
    host = named.get("hostname") or named.get("host")
    if host:
        return f"{host}:{named['port']}" if "port" in named else host
    if settings.jndi is not None:
        return settings.jndi.factory
    return settings.factory or settings.type


def without_secrets(text: str, settings: JavaSettings) -> str:
    """A text without the profile's passwords, those in URLs and those among the properties."""
    secrets = [settings.password or ""]
    named = list(settings.properties.items())
    if settings.jndi is not None:
        secrets.append(settings.jndi.password or "")
        named += [("url", settings.jndi.url or ""), *settings.jndi.environment.items()]
    for name, value in named:
        if _SECRET_NAMES.search(name):
            secrets.append(value)
        secrets += _secrets_in(value)
    for secret in sorted(set(secrets), key=len, reverse=True):
        if secret:
            text = text.replace(secret, "…")
    return text


def _secrets_in(url: str) -> Iterable[str]:
    for match in _IN_URLS.finditer(url):
        found = match[1] or match[2]
        yield found
        yield unquote(found)


_LOGIN_HINT: Final = "check the profile's username and password"
_PERMISSION_HINT: Final = "grant the profile's user the right to this queue or topic"
_ADDRESS_HINT: Final = (
    "check the URL's host and port and the firewalls between the agent and the broker"
)

# The first that matches counts: a class of Java's, or a library's words.
_KINDS: Final[tuple[tuple[str, str, str], ...]] = (
    (
        r"InvalidSelectorException",
        "bad_request",
        "a selector is a condition in SQL's manner on headers and properties: colour = 'red'",
    ),
    (
        r"InvalidClientIDException|already connected from|Durable consumer is in use",
        "conflict",
        "the durable subscription is in use by another connection: one at a time may receive",
    ),
    (
        r"InvalidDestinationException|NameNotFoundException|[Dd]estination .*does not exist",
        "target_not_found",
        "check the name of the queue or topic, and whether the broker makes them on demand",
    ),
    (
        r"java\.net\.UnknownHostException|UnresolvedAddress",
        "target_unreachable",
        "the host's name is unknown: check the URL and the agent's name servers",
    ),
    (
        (
            r"javax\.net\.ssl\.|java\.security\.cert\.|CertPathValidator|"
            r"unable to find valid certif|outbound has closed"
        ),
        "target_tls_failed",
        "check the broker's certificate, the profile's TLS settings and the port: TLS has its own",
    ),
    (
        r"MaxFrameSize|Frame size of .* larger than max|MessageSizeExceeded",
        "payload_too_large",
        "the broker takes no message of this size",
    ),
    (
        r"ResourceAllocationException|Usage Manager .* Full|UsageManager|[Qq]uota exceeded",
        "insufficient_storage",
        "the broker's memory or disk limit is reached: consume messages or raise it",
    ),
    (
        r"MessageFormatException|MessageNotWriteableException|IllegalArgumentException",
        "bad_request",
        "property names are Java identifiers, and those that begin with JMS are the broker's",
    ),
    (
        r"UnsupportedOperationException|AbstractMethodError",
        "bad_request",
        "the profile's client library can't do this",
    ),
    (r"Connection refused", "target_unreachable", f"nothing listens there: {_ADDRESS_HINT}"),
    (
        (
            r"Unknown data type|[Ii]nvalid wire format|WireFormat.*[Nn]egotiat|StreamCorrupted|"
            r"[Uu]nexpected (command|frame)|NegativeArraySize|did not send his wire format"
        ),
        "target_wrong_type",
        "something else than this library's broker answers there: check host, port and protocol",
    ),
    (
        r"SocketTimeoutException|RequestTimedOut|timed? ?out|NoRouteToHost|Network is unreachable",
        "target_unreachable",
        _ADDRESS_HINT,
    ),
    (
        (
            r"EOFException|Connection reset|[Cc]losed|Broken pipe|Stopped\.|"
            r"transport is not running|ConnectionFailed|[Dd]isposed"
        ),
        "target_unreachable",
        "the broker has closed the connection, or something else than a broker listens there",
    ),
)


def problem(found: Fault, settings: JavaSettings, stage: Stage) -> Problem:
    """The problem that an exception is."""
    detail = without_secrets(f"{address(settings)}: {found.text}", settings)
    if found.has("OutOfMemoryError"):
        return Problem(
            "overloaded",
            "the agent's Java virtual machine has not enough memory for these messages",
            hint="ask for fewer at once, or lower the profile's limits",
            retry_after=5,
        )
    if found.has("JMSSecurityException", "SecurityException", "AuthenticationException"):
        if stage == "connecting" and "not authorized" not in found.text:
            return Problem("target_login_failed", detail, hint=_LOGIN_HINT)
        return Problem("target_permission_denied", detail, hint=_PERMISSION_HINT)
    if found.has("NoClassDefFoundError", "ClassNotFoundException"):
        return Problem(
            "target_not_found",
            detail,
            hint="the client library needs more jars: put them into server.classpath too",
        )
    for pattern, code, hint in _KINDS:
        if code == "bad_request" and stage == "connecting":
            continue
        if re.search(pattern, found.everything):
            return Problem(code, detail, hint=hint)
    if stage == "connecting":
        return Problem("target_unreachable", detail, hint="check the profile's URL and properties")
    return Problem("target_unreachable", detail, hint="look at the broker's log")


def late(settings: JavaSettings, what: str, seconds: float) -> Problem:
    """Something has taken too long."""
    return Problem(
        "target_unreachable",
        f"{address(settings)}: {what} within {seconds:g} s",
        hint=f"the broker may hang: look at it, or {_ADDRESS_HINT}",
    )
