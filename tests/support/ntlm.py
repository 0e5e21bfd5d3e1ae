"""An HTTP application that knows Windows accounts: pyspnego's acceptor inside twisted.web."""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from base64 import b64decode, b64encode
from pathlib import Path
from weakref import WeakKeyDictionary

import spnego
from attrs import define, frozen
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Request

DOMAIN, USER, PASSWORD = "SALES", "scott", "t%g@er"


@frozen
class Seen:
    """A request as it arrived. ``stage``: negotiate, authenticate, known or nobody."""

    method: str
    stage: str
    length: int
    sha256: str
    headers: dict[str, str]


@define(eq=False)
class Guest:
    """One connection."""

    context: spnego.ContextProxy | None = None
    user: str | None = None


class WindowsApplication(Resource):
    """Serves who has logged in on the connection.

    :ivar seen: all requests. ``logins``: how many succeeded. ``refused``: how many did not.
    :ivar lasting: a login holds for its connection; otherwise for one request.
    :ivar padding: bytes of the 401's body.
    :ivar binding: what the login has to be tied to; None takes any.
    :ivar workstations: what callers said that they are called.
    :ivar forbidden: requests of this path are answered 401 whoever asks.
    """

    isLeaf = True  # noqa: N815 - Twisted's name

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Seen] = []
        self.logins = self.refused = 0
        self.lasting = True
        self.padding = 0
        self.binding: bytes | None = None
        self.workstations: list[str] = []
        self.forbidden = b"/forbidden"
        self._guests: WeakKeyDictionary[HTTPChannel, Guest] = WeakKeyDictionary()
        descriptor, name = tempfile.mkstemp()
        os.close(descriptor)
        self._accounts = Path(name)
        self._accounts.write_text(f"{DOMAIN}:{USER}:{PASSWORD}\n", encoding="utf-8")

    def close(self) -> None:
        """Forget the accounts."""
        self._accounts.unlink()

    @property
    def connections(self) -> int:
        """Connections that are still open."""
        return len(self._guests)

    def render(self, request: Request) -> bytes:
        guest = self._guests.setdefault(request.channel, Guest())
        scheme, _, text = (request.getHeader(b"authorization") or b"").partition(b" ")
        token = b64decode(text) if scheme.lower() == b"ntlm" else b""
        stage = "known" if guest.user else "nobody"
        if token:
            stage = "negotiate" if token[8:12] == b"\x01\0\0\0" else "authenticate"
        body = request.content.read()
        headers = {
            key.decode().lower(): values[0].decode()
            for key, values in request.requestHeaders.getAllRawHeaders()
        }
        digest = hashlib.sha256(body).hexdigest()
        self.seen.append(Seen(request.method.decode(), stage, len(body), digest, headers))
        answer = self._step(guest, token) if token else None
        if guest.user is None or request.path == self.forbidden:
            return self._refuse(request, answer)
        user, guest.user = guest.user, guest.user if self.lasting else None
        return f"{user} {len(body)} {digest}".encode()

    def _refuse(self, request: Request, challenge: bytes | None) -> bytes:
        request.setResponseCode(401)
        value = b"NTLM " + b64encode(challenge) if challenge else b"NTLM"
        request.responseHeaders.setRawHeaders(b"www-authenticate", [b"Negotiate", value])
        return b"who are you" + b"?" * self.padding

    def _step(self, guest: Guest, token: bytes) -> bytes | None:
        before = os.environ.get("NTLM_USER_FILE")
        os.environ["NTLM_USER_FILE"] = str(self._accounts)
        try:
            if token[8:12] == b"\x01\0\0\0":
                guest.user = None
                guest.context = spnego.server(
                    protocol="ntlm", options=spnego.NegotiateOptions.use_ntlm
                )
                return guest.context.step(token)
            self._remember_workstation(token)
            context, guest.context = guest.context, None
            if context is None:
                return None
            bound = self.binding
            context.step(
                token,
                channel_bindings=None
                if bound is None
                else GssChannelBindings(application_data=bound),
            )
            guest.user = context.client_principal
            self.logins += 1
        except SpnegoError:
            self.refused += 1
        finally:
            if before is None:
                del os.environ["NTLM_USER_FILE"]
            else:
                os.environ["NTLM_USER_FILE"] = before
        return None

    def _remember_workstation(self, token: bytes) -> None:
        length, _, offset = struct.unpack_from("<HHI", token, 44)
        self.workstations.append(token[offset : offset + length].decode("utf-16-le"))
