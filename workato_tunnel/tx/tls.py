"""TLS as a tunnel wants it."""

from __future__ import annotations

from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol


class PromptTLSFactory(TLSMemoryBIOFactory):
    """Encrypts what is written at once.

    Twisted's usual transport gathers small writes for a turn of the reactor. A session does that
    itself, by packing, so a second wait would only add latency to each call.
    """

    protocol = TLSMemoryBIOProtocol
