"""What the customer's policy says about queues, topics and the size of messages."""

from __future__ import annotations

from attrs import frozen

from workato_tunnel.problems import Problem

from .broker import Destination, OutgoingMessage
from .routes import shown
from .settings import JmsPolicy


@frozen
class Access:
    """The rules that the service enforces itself."""

    _policy: JmsPolicy

    def check(self, destination: Destination) -> None:
        """Raises Problem ``policy_denied``."""
        patterns = self._policy.destinations
        if patterns is None:
            return
        if not any(each.matches(destination.kind, destination.name) for each in patterns):
            allowed = ", ".join(each.text for each in patterns)
            raise Problem(
                "policy_denied",
                f"the rule 'destinations' refuses {shown(destination)!r}: it allows {allowed}",
                hint="the customer sets it in the agent's config.yml, in the profile's policy",
                extra={"rule": "destinations"},
            )

    def check_message(self, message: OutgoingMessage, place: str) -> None:
        """Raises Problem ``policy_denied``.

        :param place: where the message stands in the call.
        """
        if message.reply_to is not None:
            self.check(message.reply_to)
        most = self._policy.max_bytes
        if most is None:
            return
        body = message.body
        size = len(body) if isinstance(body, bytes) else len(body.encode("utf-8", "replace"))
        if size > most:
            raise Problem(
                "policy_denied",
                f"the rule 'max_bytes' allows {most} bytes of a message; {place}body has {size}",
                hint="the customer sets it in the agent's config.yml, in the profile's policy",
                extra={"rule": "max_bytes"},
            )
