"""From what librdkafka and the brokers say to problems."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from attrs import define, field
from confluent_kafka import KafkaError, KafkaException

from workato_tunnel.problems import Problem

_HINTS: Final = {
    "target_permission_denied": "an ACL of the cluster has to allow it to the profile's user",
    "target_not_found": "check the topic's name; names are case-sensitive",
    "payload_too_large": "see message.max.bytes of the profile and max.message.bytes of the topic",
    "target_login_failed": "check sasl.mechanism, the user name and the password",
    "target_tls_failed": "check ssl.truststore, and the name and validity of the certificates",
    "conflict": "the group was rebalanced: what was not acknowledged is delivered again",
    "target_wrong_type": "check the port, and that security.protocol is the listener's",
}
_CODES: Final[Mapping[str, tuple[int, ...]]] = {
    "target_login_failed": (
        KafkaError._AUTHENTICATION,  # noqa: SLF001 - its public names begin so
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
    ),
    "target_tls_failed": (KafkaError._SSL,),  # noqa: SLF001
    "target_permission_denied": (
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    ),
    "target_not_found": (
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    ),
    "payload_too_large": (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE),
    "conflict": (
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError._STATE,  # noqa: SLF001
    ),
    "bad_request": (
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.INVALID_RECORD,
        KafkaError.POLICY_VIOLATION,
        KafkaError.INVALID_GROUP_ID,
        KafkaError._INVALID_ARG,  # noqa: SLF001
    ),
    "target_wrong_type": (KafkaError._BAD_MSG,),  # noqa: SLF001
}
_BY_CODE: Final = {code: name for name, codes in _CODES.items() for code in codes}
_OTHER_PROTOCOL: Final = re.compile(r"(?i)ApiVersion|invalid response size|SSL listener")
_HANDSHAKE: Final = re.compile(r"SSL handshake failed|SSL_HANDSHAKE")
_SURE: Final = ("target_login_failed", "target_tls_failed", "target_wrong_type")


def problem_code(error: KafkaError) -> str:
    """Which of our problems an error is."""
    code = _BY_CODE.get(error.code(), "target_unreachable")
    text = str(error.str())
    if code == "target_unreachable" and _HANDSHAKE.search(text):
        return "target_tls_failed"
    if code == "target_unreachable" and _OTHER_PROTOCOL.search(text):
        # A listener that wants TLS, or none, hangs up on the first request.
        return "target_wrong_type"
    return code


def problem(error: KafkaError, about: str = "") -> Problem:
    """The problem that an error is; ``about`` names a topic or group."""
    code = problem_code(error)
    text = str(error.str())
    return Problem(code, f"{about}: {text}" if about else text, hint=_HINTS.get(code))


def unusable(error: KafkaException) -> Problem:
    """A client that can't even be made: what is wrong is the profile, not the call."""
    said = error.args[0]
    text = said.str() if isinstance(said, KafkaError) else str(said)
    words = {"ssl": "target_tls_failed", "sasl": "target_login_failed"}
    found = (code for word, code in words.items() if word in text.lower())
    code = next(found, "target_unreachable")
    return Problem(code, text, hint="correct the profile in the agent's config.yml")


@define(eq=False)
class Trouble:
    """What a client has said of its connections since the last success.

    Its errors come beside the calls: a call only learns that its time is up.

    :ivar down: no broker could be reached.
    :ivar fatal: the client can't be used any more.
    """

    last: KafkaError | None = field(default=None, init=False)
    down: bool = field(default=False, init=False)
    fatal: KafkaError | None = field(default=None, init=False)

    def note(self, error: KafkaError) -> None:
        """librdkafka's ``error_cb``; it calls in the thread that polls."""
        if error.fatal():
            self.fatal = error
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            self.down = True
        elif self.last is None or problem_code(self.last) not in _SURE:
            self.last = error

    def clear(self) -> None:
        """A broker has answered."""
        self.last = None
        self.down = False

    @property
    def hopeless(self) -> bool:
        """Whether trying again is of no use."""
        return self.last is not None and problem_code(self.last) in _SURE

    def problem(self, what: str, seconds: float) -> Problem:
        """Why there was no answer within a time; ``what`` did not succeed."""
        if self.last is not None:
            return problem(self.last)
        if self.down:
            return Problem(
                "target_unreachable",
                f"{what}: the brokers close the connection without a word",
                hint="a listener that wants TLS does so (kafka+ssl://, or security.protocol), and"
                " what is no Kafka broker",
            )
        return Problem(
            "target_unreachable",
            f"{what}: no answer within {seconds:.3g} s",
            hint="a broker that hangs, or a firewall that drops; see timeout of the profile",
        )
