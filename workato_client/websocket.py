"""The WebSocket of one forwarded connection, to the gateway."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Final, Protocol, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.frames import CloseCode
from websockets.protocol import State
from websockets.uri import parse_uri

from workato_tunnel.binary import LARGEST, BinaryMessages

CONNECT_SECONDS: Final = 30
CLOSE_SECONDS: Final = 10
LONGEST_HEAD: Final = 64 * 1024


class ForwardError(Exception):
    """The gateway did not let a connection through. The message is the gateway's own."""


class LocalSide(Protocol):
    """Who uses the WebSocket."""

    def received(self, data: bytes) -> None:
        """Bytes from the target."""

    def ended(self) -> None:
        """Nothing more comes from the target."""

    def full(self) -> None:
        """The gateway takes slowly: send no more for now."""

    def ready(self) -> None:
        """The gateway takes again."""

    def closed(self, reason: str) -> None:
        """The WebSocket is gone; called once. ``reason``: what cut it, "" for an end in order."""


class GatewaySocket(asyncio.Protocol):
    """A WebSocket whose binary messages are the bytes of a connection."""

    transport: asyncio.Transport

    def __init__(self, url: str, token: str) -> None:
        self._client = ClientProtocol(parse_uri(url), max_size=LARGEST)
        self._token = token
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._head = b""
        self._refused = False
        self._ended = False
        self._messages: BinaryMessages | None = None
        self._local: LocalSide | None = None
        self._left = False
        self._overdue: asyncio.TimerHandle | None = None

    # -- what its user asks --------------------------------------------------------------------

    async def open(self, tls: ssl.SSLContext | None) -> None:
        """Connect and shake hands. Nothing is read after that before :meth:`begin`.

        Raises ForwardError, OSError and TimeoutError.
        """
        loop = asyncio.get_running_loop()
        uri = self._client.uri
        name = uri.host if tls is not None else None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(
                    lambda: self, uri.host, uri.port, ssl=tls, server_hostname=name
                )
                await self._opened
        except InvalidStatus as error:
            raise ForwardError(_problem(error)) from None
        except WebSocketException as error:
            raise ForwardError(f"the gateway's answer is no WebSocket: {error}") from None
        finally:
            if self._messages is None and hasattr(self, "transport"):
                self.transport.abort()

    def begin(self, local: LocalSide) -> None:
        """From here on ``local`` is told."""
        self._local = local
        head, self._head = self._head, b""
        if head:
            self.data_received(head)
        if self._gone.done():
            self._tell_closed()
        else:
            self.transport.resume_reading()

    def send(self, data: bytes) -> None:
        """Send bytes to the target."""
        messages = self._messages
        if messages is not None and messages.open:
            self.transport.write(messages.message(data))

    def hold(self) -> None:
        """Read no more for now."""
        self.transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        self.transport.resume_reading()

    def leave(self) -> None:
        """Close it behind what was sent, and hear no more of it."""
        self._local = None
        if self._left or self._gone.done():
            return
        self._left = True
        if self._messages is not None:
            self._messages.close(CloseCode.NORMAL_CLOSURE)
            self.transport.write(self._messages.answers())
        # A socket closed before all has been read resets, and what was sent may be lost.
        self.transport.resume_reading()
        self._expect_end()

    async def gone(self) -> None:
        """Wait until it is closed."""
        await self._gone

    # -- what asyncio tells --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        request = self._client.connect()
        request.headers["Authorization"] = f"Bearer {self._token}"
        self._client.send_request(request)
        self.transport.write(b"".join(self._client.data_to_send()))

    def data_received(self, data: bytes) -> None:
        messages, local = self._messages, self._local
        if messages is None:
            self._shake_hands(data)
        elif local is not None:
            content, ended = messages.read(data)
            if not self._ended:
                if content:
                    local.received(content)
                if ended:
                    self._ended = True
                    local.ended()
            if messages.answer_due:
                self._answer(messages)
        elif self._left:
            messages.receive(data)
        else:
            self._head += data

    def connection_lost(self, exc: Exception | None) -> None:
        client = self._client
        if self._overdue is not None:
            self._overdue.cancel()
        client.receive_eof()
        if not self._opened.done():
            self._opened.set_exception(
                client.handshake_exc or ConnectionError("the gateway closed the connection")
            )
        self._gone.set_result(None)
        self._tell_closed()

    def pause_writing(self) -> None:
        if self._local is not None:
            self._local.full()

    def resume_writing(self) -> None:
        if self._local is not None:
            self._local.ready()

    # -- inside --------------------------------------------------------------------------------

    def _shake_hands(self, data: bytes) -> None:
        client = self._client
        rest = b""
        if not self._refused:
            self._head += data
            end = self._head.find(b"\r\n\r\n") + 4
            if end < 4 and len(self._head) < LONGEST_HEAD:
                return
            data, self._head = self._head, b""
            if data.startswith(b"HTTP/1.1 101 "):
                data, rest = data[:end], data[end:]
            else:
                self._refused = True  # and a body, which says why, may still be on its way
        client.receive_data(data)
        client.events_received()
        if client.handshake_exc is not None:
            self._fail(client.handshake_exc)
        elif client.state is State.OPEN:
            self._messages = BinaryMessages(client)
            self.transport.pause_reading()
            self._head = rest
            if not self._opened.done():
                self._opened.set_result(None)

    def _answer(self, messages: BinaryMessages) -> None:
        self.transport.write(messages.answers())
        if not messages.open:
            self._expect_end()

    def _expect_end(self) -> None:
        """The gateway is the one to close the connection, but has so long for it only."""
        if self._overdue is None and not self._gone.done():
            loop = asyncio.get_running_loop()
            self._overdue = loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def _fail(self, error: Exception) -> None:
        if not self._opened.done():
            self._opened.set_exception(error)

    def _tell_closed(self) -> None:
        local, self._local = self._local, None
        if local is not None:
            close = self._client.close_rcvd
            in_order = close is not None and close.code in (
                CloseCode.NORMAL_CLOSURE,
                CloseCode.GOING_AWAY,
            )
            local.closed("" if in_order else str(self._client.close_exc))


def _problem(error: InvalidStatus) -> str:
    response = error.response
    try:
        problem = json.loads(response.body or b"")
        text = f"{problem['code']}: {problem.get('detail') or problem.get('title')}"
        return f"{text} ({problem['hint']})" if problem.get("hint") else text
    except (ValueError, KeyError, TypeError):
        return f"the gateway answered {response.status_code}"
