"""How commands reach the administrative resources: in this process on the store, or over HTTP.

Both answer the same requests with the same documents, so a command is written once.
"""

from __future__ import annotations

import argparse
import getpass
import http.client
import json
import os
import ssl
import sys
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from twisted.internet.defer import Deferred

from workato_tunnel.problems import Problem

from ..api.messages import AdminRequest
from ..api.resources import Resources
from ..assembly import local_resources
from ..config import ConfigError, load
from ..identity.authority import AuthorityError
from ..identity.tokens import ADMIN, Caller
from ..storage.interface import StoreError

DEFAULT_CONFIG: Final = "/etc/workato-gateway/gateway.yml"
TIMEOUT: Final = 30.0
MAX_ANSWER: Final = 64 << 20


class CommandError(Exception):
    """The command failed; the message is for the operator."""


class WrongUse(Exception):
    """The command was used wrongly."""


class Administration(Protocol):
    """Answers requests below ``/v1``."""

    def call(
        self,
        method: str,
        path: tuple[str, ...],
        body: object = None,
        query: dict[str, str] | None = None,
    ) -> Any:
        """The decoded document of the answer; None where there is none. Raises CommandError."""
        ...


def _words(problem: dict[str, Any]) -> str:
    detail = str(problem.get("detail") or problem.get("title") or "the gateway refused")
    return f"{detail} ({problem['hint']})" if problem.get("hint") else detail


class LocalAdministration:
    """On the store of a config file; the gateway may run meanwhile, and notices in a second."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._caller = Caller(f"{_user()} (command line)", "", (ADMIN,))

    def call(
        self,
        method: str,
        path: tuple[str, ...],
        body: object = None,
        query: dict[str, str] | None = None,
    ) -> Any:
        """See :class:`Administration`."""
        request = AdminRequest(
            method=method,
            path=path,
            query=query or {},
            body=b"" if body is None else msgspec.json.encode(body),
            caller=self._caller,
            request_id="",
            peer="",
        )
        outcome: list[Any] = []
        answered = Deferred.fromCoroutine(self._resources.dispatch(request))
        answered.addBoth(outcome.append)
        if not outcome:
            raise CommandError("the store did not answer at once")
        answer = outcome[0]
        if error := getattr(answer, "value", None):
            if isinstance(error, Problem):
                raise CommandError(_words(error.members("")))
            raise error
        return msgspec.json.decode(answer.body()) if answer.content is not None else None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        # ImportError: Python looks users up with what Windows lacks.
        return "unknown" if sys.platform == "win32" else f"uid {os.getuid()}"


class RemoteAdministration:
    """Over the gateway's API."""

    def __init__(self, url: str, token: str, ca: Path | None) -> None:
        parts = urlsplit(url)
        try:
            self._port = parts.port
        except ValueError:
            raise WrongUse(f"--url: {url!r} has an impossible port") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise WrongUse("--url: expected https://HOST[:PORT] or http://HOST[:PORT]")
        self._plain = parts.scheme == "http"
        self._host = parts.hostname
        self._base = parts.path.rstrip("/")
        self._token = token
        self._ca = ca

    def call(
        self,
        method: str,
        path: tuple[str, ...],
        body: object = None,
        query: dict[str, str] | None = None,
    ) -> Any:
        """See :class:`Administration`."""
        target = f"{self._base}/v1/" + "/".join(quote(part, safe="") for part in path)
        if query:
            target += "?" + urlencode(query)
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        content = None
        if body is not None:
            content = msgspec.json.encode(body)
            headers["Content-Type"] = "application/json"
        connection = self._connection()
        try:
            connection.request(method, target, content, headers)
            response = connection.getresponse()
            answer = response.read(MAX_ANSWER)
        except ssl.SSLCertVerificationError as error:
            raise CommandError(
                f"the certificate of {self._host} is not trusted: {error.verify_message}"
                " (name the gateway's ca.crt with --ca)"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise CommandError(f"{self._host}: {error or type(error).__name__}") from error
        finally:
            connection.close()
        return self._document(response.status, answer)

    def _connection(self) -> http.client.HTTPConnection:
        if self._plain:
            return http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)
        try:
            context = ssl.create_default_context(cafile=str(self._ca) if self._ca else None)
        except (OSError, ssl.SSLError) as error:
            raise CommandError(f"--ca {self._ca}: {error}") from error
        return http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT, context=context)

    def _document(self, status: int, answer: bytes) -> Any:
        try:
            document = json.loads(answer) if answer else None
        except ValueError:
            raise CommandError(
                f"{self._host} answered {status} with something that is not JSON:"
                " is this the gateway's API?"
            ) from None
        if 200 <= status < 300:
            return document
        raise CommandError(
            _words(document) if isinstance(document, dict) else f"{self._host} answered {status}"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the administration is: ``--config``, or ``--url`` with ``--token`` and ``--ca``."""
    group = parser.add_argument_group("where (a gateway's store on this machine, or its API)")
    group.add_argument(
        "--config",
        metavar="PATH",
        default=os.environ.get("WORKATO_GATEWAY_CONFIG", DEFAULT_CONFIG),
        help=f"gateway.yml; default $WORKATO_GATEWAY_CONFIG or {DEFAULT_CONFIG}",
    )
    group.add_argument("--url", metavar="URL", help="the API's URL, to work from afar")
    group.add_argument(
        "--token", metavar="TOKEN", help="a token with the scope admin; default $ONPREM_TOKEN"
    )
    group.add_argument(
        "--ca", metavar="PATH", type=Path, help="the gateway's ca.crt; default $ONPREM_CA"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def open_administration(arguments: argparse.Namespace) -> Administration:
    """What the arguments ask for. Raises CommandError and WrongUse."""
    if arguments.url is None:
        if arguments.token is not None or arguments.ca is not None:
            raise WrongUse("--token and --ca go with --url")
        try:
            return LocalAdministration(local_resources(load(Path(arguments.config))))
        except (ConfigError, StoreError, AuthorityError) as error:
            raise CommandError(str(error)) from error
    token = arguments.token or os.environ.get("ONPREM_TOKEN")
    if not token:
        raise WrongUse("--url needs --token or $ONPREM_TOKEN")
    ca = arguments.ca or os.environ.get("ONPREM_CA")
    return RemoteAdministration(arguments.url, token, Path(ca) if ca else None)
