"""A WebSocket to the gateway: handshake, whole binary messages, signs of life."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Final, Protocol, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.frames import CloseCode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from workato_tunnel.binary import BinaryMessages
from workato_tunnel.settings import MAX_MESSAGE

CONNECT_SECONDS: Final = 30
CLOSE_SECONDS: Final = 10
PING_SECONDS: Final = 20
"""A ping goes out if nothing has come for so long; after twice that the gateway is gone."""
LONGEST_HEAD: Final = 64 * 1024
READ_SIZE: Final = 128 * 1024


class ForwardError(Exception):
    """The gateway did not let a connection through. The message is the gateway's own."""


class Listener(Protocol):
    """Who is told of what comes over a WebSocket."""

    def message_received(self, message: bytes) -> None:
        """A whole message."""

    def room(self, *, ready: bool) -> None:
        """The gateway takes slowly: send no more for now; or it takes again."""

    def closed(self, reason: str) -> None:
        """The WebSocket is gone; called once. ``reason``: what cut it, "" for an end in order."""


class GatewaySocket(asyncio.BufferedProtocol):
    """One WebSocket, whose messages are handed on whole."""

    transport: asyncio.Transport

    def __init__(self, url: str, token: str, subprotocol: str) -> None:
        self._client = ClientProtocol(
            parse_uri(url), max_size=MAX_MESSAGE, subprotocols=[Subprotocol(subprotocol)]
        )
        self._token = token
        loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._buffer = memoryview(bytearray(READ_SIZE))
        self._head = b""
        self._refused = False
        self._messages: BinaryMessages | None = None
        self._listener: Listener | None = None
        self._left = False
        self._heard = True
        self._unheard = False
        self._given_up = False
        self._overdue: asyncio.TimerHandle | None = None
        self._ping: asyncio.TimerHandle | None = None

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
        except TimeoutError as error:
            said = f"the gateway has not answered within {CONNECT_SECONDS:g} s"
            raise TimeoutError(str(error) or said) from None
        except WebSocketException as error:
            raise ForwardError(f"the gateway's answer is no WebSocket: {error}") from None
        finally:
            if self._messages is None and hasattr(self, "transport"):
                self.transport.abort()
        if self._client.subprotocol is None:
            self.leave()
            raise ForwardError("the agent is too old for this command, or no agent has answered")

    def begin(self, listener: Listener) -> None:
        """From here on ``listener`` is told."""
        self._listener = listener
        head, self._head = self._head, b""
        if head:
            self._received(head)
        if self._gone.done():
            self._tell_closed()
        else:
            self._ping = asyncio.get_running_loop().call_later(PING_SECONDS, self._look)
            self.transport.resume_reading()

    def send(self, message: bytes) -> None:
        """Send a message."""
        messages = self._messages
        if messages is not None and messages.open:
            self.transport.write(messages.message(message))

    def leave(self) -> None:
        """Close it behind what was sent, and hear no more of it."""
        self._listener = None
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

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._received(bytes(self._buffer[:nbytes]))

    def connection_lost(self, exc: Exception | None) -> None:
        client = self._client
        for timer in (self._overdue, self._ping):
            if timer is not None:
                timer.cancel()
        client.receive_eof()
        if not self._opened.done():
            self._opened.set_exception(
                client.handshake_exc or ConnectionError("the gateway closed the connection")
            )
        self._gone.set_result(None)
        self._tell_closed()

    def pause_writing(self) -> None:
        if self._listener is not None:
            self._listener.room(ready=False)

    def resume_writing(self) -> None:
        if self._listener is not None:
            self._listener.room(ready=True)

    # -- inside --------------------------------------------------------------------------------

    def _received(self, data: bytes) -> None:
        self._heard = True
        messages = self._messages
        if messages is None:
            self._shake_hands(data)
        elif self._listener is None and not self._left:
            self._head += data
        else:
            for message in messages.receive(data):
                if self._listener is not None:
                    self._listener.message_received(message)
            if messages.answer_due and not self._left:
                self.transport.write(messages.answers())
                if not messages.open:
                    self._expect_end()

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
            if not self._opened.done():
                self._opened.set_exception(client.handshake_exc)
        elif client.state is State.OPEN:
            self._messages = BinaryMessages(client, whole=True, largest=MAX_MESSAGE)
            self.transport.pause_reading()
            self._head = rest
            if not self._opened.done():
                self._opened.set_result(None)

    def _look(self) -> None:
        """Whether the gateway is still there."""
        messages = self._messages
        if self._heard:
            self._heard = self._unheard = False
        elif self._unheard:
            self._given_up = True
            self.transport.abort()
            return
        else:
            self._unheard = True
            if messages is not None and messages.open:
                self._client.send_ping(b"")
                self.transport.write(messages.answers())
        self._ping = asyncio.get_running_loop().call_later(PING_SECONDS, self._look)

    def _expect_end(self) -> None:
        """The gateway is the one to close the connection, but has so long for it only."""
        if self._overdue is None and not self._gone.done():
            loop = asyncio.get_running_loop()
            self._overdue = loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def _tell_closed(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            close = self._client.close_rcvd
            in_order = close is not None and close.code in (
                CloseCode.NORMAL_CLOSURE,
                CloseCode.GOING_AWAY,
            )
            if in_order:
                listener.closed("")
            elif self._given_up:
                listener.closed(f"nothing has come from the gateway for {2 * PING_SECONDS:g} s")
            else:
                listener.closed(str(self._client.close_exc))


def _problem(error: InvalidStatus) -> str:
    said = problem_text(bytes(error.response.body or b""))
    return said or f"the gateway answered {error.response.status_code}"


def problem_text(body: bytes) -> str:
    """What a problem document (RFC 9457) says, on one line; "" where it is none."""
    try:
        problem = json.loads(body)
        text = f"{problem['code']}: {problem.get('detail') or problem.get('title')}"
        return f"{text} ({problem['hint']})" if problem.get("hint") else text
    except (ValueError, KeyError, TypeError):
        return ""
