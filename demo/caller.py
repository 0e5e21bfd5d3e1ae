"""The caller's side of the demo: calls, shown as the curl lines that do the same."""

from __future__ import annotations

import http.client
import json
import shlex
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from attrs import field, frozen


class WrongAnswerError(Exception):
    """An answer is not what it has to be."""


@frozen
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    milliseconds: float

    def json(self) -> dict[str, object]:
        """The body as a JSON object. Raises WrongAnswerError."""
        try:
            document = json.loads(self.body)
        except ValueError as error:
            raise WrongAnswerError(f"not JSON: {self.body[:200]!r}") from error
        if not isinstance(document, dict):
            raise WrongAnswerError(f"not a JSON object: {document!r}")
        return document


@frozen
class Caller:
    """Makes calls with one token and prints them.

    :ivar variable: the name that the token has in the curl lines.
    """

    url: str
    token: str = field(repr=False)
    variable: str = "TOKEN"

    def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | Mapping[str, object] = b"",
        headers: Mapping[str, str] | None = None,
        show: int = 400,
    ) -> Answer:
        """One call; prints it and the first ``show`` characters of the answer."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        extra = dict(headers or {})
        if content and "Content-Type" not in extra and not isinstance(body, bytes):
            extra["Content-Type"] = "application/json"
        print("  $ " + self.curl(method, path, body=body, headers=headers))
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
        began = time.perf_counter()
        connection.request(
            method, path, content or None, {"Authorization": f"Bearer {self.token}", **extra}
        )
        response = connection.getresponse()
        received = response.read()
        milliseconds = (time.perf_counter() - began) * 1e3
        connection.close()
        kind = response.headers.get("Content-Type", "")
        print(
            f"  {response.status} {response.reason} · {kind or 'no body'}"
            f" · {len(received):,} bytes · {milliseconds:.0f} ms"
        )
        if received and show and ("json" in kind or "csv" in kind):
            text = received[:show].decode("utf-8", "replace")
            more = " …" if len(received) > show else ""
            for line in (text + more).strip().splitlines():
                print(f"  {line}")
        return Answer(response.status, dict(response.headers), received, milliseconds)

    def curl(
        self,
        method: str,
        path: str,
        *,
        body: bytes | Mapping[str, object] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """The same call for a shell in which ``URL`` and the token are set."""
        words = ["curl", "-s"]
        if method == "PUT":
            words += ["-T", "FILE"]
        elif body and not isinstance(body, bytes):
            words += ["--json", shlex.quote(json.dumps(body, ensure_ascii=False))]
        elif method != "GET":
            words += ["-X", method]
        words += [f'-H "Authorization: Bearer ${self.variable}"']
        words += [
            f"-H {shlex.quote(f'{name}: {value}')}" for name, value in (headers or {}).items()
        ]
        return " ".join([*words, f'"$URL{path}"'])
