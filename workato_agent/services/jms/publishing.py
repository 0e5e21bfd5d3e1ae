"""Messages from a caller to the broker, as a document or as a stream of lines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from attrs import define

from workato_tunnel.problems import Problem

from ...requests import Request
from .access import Access
from .broker import Broker, Destination, OutgoingMessage
from .messages import MessageDocument, document, one_or_several, outgoing
from .settings import JmsSettings

NDJSON: Final = "application/x-ndjson"
_BLOCK: Final = 500
_BLOCK_BYTES: Final = 4 * 2**20
_OVERHEAD: Final = 64 * 1024
"""Bytes of a message beside its body."""


@define(eq=False)
class Publishing:
    """Publishes for one profile."""

    _broker: Broker
    _access: Access
    _settings: JmsSettings

    @property
    def largest(self) -> int:
        """Bytes of a document: JSON may take six for one of a text, Base64 takes four for three."""
        return self._settings.max_message * 4 // 3 + _OVERHEAD

    async def answer(self, request: Request, destination: Destination) -> dict[str, object]:
        """Publish what a call brings. Raises Problem."""
        media = (request.header("content-type") or "").partition(";")[0].strip().lower()
        if media == NDJSON:
            count = await self._stream(request, destination)
            request.usage.rows = count
            return {"count": count}
        body = await request.body.read(self.largest)
        found, several = one_or_several(body)
        messages = [
            self._message(each, f"messages[{number}]." if several else "")
            for number, each in enumerate(found)
        ]
        ids = await self._broker.publish(destination, messages)
        request.usage.rows = len(ids)
        return {"message_ids": ids} if several else {"message_id": ids[0]}

    def _message(self, found: MessageDocument, place: str) -> OutgoingMessage:
        message = outgoing(found, place)
        self._access.check_message(message, place)
        return message

    async def _stream(self, request: Request, destination: Destination) -> int:
        """A message a line, in blocks: each is with the broker before the next is read."""
        published, number = 0, 0
        block: list[OutgoingMessage] = []
        size = 0
        try:
            async for line in _lines(request.body.__aiter__(), self.largest):
                number += 1
                if not line.strip():
                    continue
                block.append(self._line(line, number))
                size += len(line)
                if len(block) >= _BLOCK or size >= _BLOCK_BYTES:
                    published += await self._block(destination, block)
                    block, size = [], 0
            published += await self._block(destination, block)
        except Problem as problem:
            certain = problem.extra.get("published", 0)
            problem.extra["published"] = published + (certain if isinstance(certain, int) else 0)
            raise
        return published

    def _line(self, line: bytes, number: int) -> OutgoingMessage:
        try:
            return self._message(document(MessageDocument, line), "")
        except Problem as problem:
            problem.extra["line"] = number
            problem.detail = f"line {number}: {problem.detail}"
            raise

    async def _block(self, destination: Destination, block: Sequence[OutgoingMessage]) -> int:
        return len(await self._broker.publish(destination, block)) if block else 0


async def _lines(chunks: AsyncIterator[bytes], largest: int) -> AsyncIterator[bytes]:
    """Lines without their ends. Raises Problem ``payload_too_large``."""
    held = bytearray()
    async for chunk in chunks:
        first, *rest = chunk.split(b"\n")
        held += first
        for part in rest:
            yield bytes(held)
            held = bytearray(part)
        if len(held) > largest:
            raise Problem(
                "payload_too_large",
                f"a line is longer than {largest} bytes",
                hint="raise limits.message in the agent's configuration, or send less",
            )
    if held:
        yield bytes(held)
