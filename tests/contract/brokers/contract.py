"""The contract of message brokers: every group of its tests."""

from __future__ import annotations

from .case import LIMIT, pause
from .failures import Failures
from .messages import Messages
from .receiving import Receiving
from .topics import Topics

__all__ = ["LIMIT", "BrokerContract", "pause"]


class BrokerContract(Messages, Receiving, Topics, Failures):
    """Subclassed once for each broker; not run by itself."""
