"""Secrets that live elsewhere: ``{secret: PATH}``, fetched when the config is loaded.

AWS Secrets Manager (``GetSecretValue``) through botocore, and HashiCorp Vault's KV version 2 and
AppRole login over its HTTP API. Both block: a config is loaded before the agent runs, or in a
thread.
"""

from __future__ import annotations

import json
import ssl
from typing import Any, Final, Literal, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from pydantic import Field, model_validator

from .aws import LOGIN_HINTS, MISSING_LIBRARY, AwsKeys
from .fields import ConfigPath, Model, PositiveSeconds, Text, authority_file, refuse, split_url
from .secrets import MAX_SECRET, Secret

_LARGEST: Final = 1024 * 1024


class SecretStoreError(Exception):
    """A secret could not be fetched. The message says why; ``hint`` what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class SecretStore(Protocol):
    """Where secrets are fetched from."""

    def fetch(self, path: str) -> str:
        """The secret's text. Raises SecretStoreError."""
        ...


class SecretsOptions(Model):
    """``secrets``: where ``{secret: PATH}`` is looked up.

    :ivar region: aws: the region.
    :ivar access_key: aws: with ``secret_key`` instead of what the machine itself is allowed (its
        environment, shared credentials or instance role).
    :ivar endpoint: aws: another address than the public one, as of a VPC endpoint.
    :ivar url: vault: its address.
    :ivar token: vault: a token; or ``role_id`` and ``secret_id`` of an AppRole.
    :ivar mount: vault: where the KV engine is mounted.
    :ivar timeout: seconds for one request.
    """

    provider: Literal["aws", "vault"]
    region: Text | None = None
    access_key: Secret | None = Field(None, alias="accessKey")
    secret_key: Secret | None = Field(None, alias="secretKey")
    endpoint: Text | None = None
    url: Text | None = None
    token: Secret | None = None
    role_id: Text | None = None
    secret_id: Secret | None = None
    mount: Text = "secret"
    namespace: Text | None = None
    ca: ConfigPath | None = None
    timeout: PositiveSeconds = 10

    @model_validator(mode="after")
    def _complete(self) -> SecretsOptions:
        for url, at in ((self.url, "url"), (self.endpoint, "endpoint")):
            if url is not None:
                parts = split_url(url, ("https", "http"), "https://vault.intra:8200")
                if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost"):
                    refuse("secrets are not fetched in plain text: expected https://", at=at)
        if self.provider == "aws":
            if self.region is None:
                refuse("missing: the region of AWS Secrets Manager", at="region")
            if (self.access_key is None) != (self.secret_key is None):
                refuse("accessKey and secretKey go together: one of them is missing")
        else:
            if self.url is None:
                refuse("missing: Vault's address", "for example https://vault.intra:8200", at="url")
            if self.token is None and (self.role_id is None or self.secret_id is None):
                refuse("expected a token, or role_id and secret_id", at="token")
        authority_file(self.ca, at="ca")
        return self

    def open(self) -> SecretStore:
        """The store; nothing is asked of it yet."""
        return AwsSecrets(self) if self.provider == "aws" else VaultSecrets(self)


class AwsSecrets:
    """AWS Secrets Manager. ``name#key`` is one key of a secret that is a JSON object."""

    def __init__(self, options: SecretsOptions) -> None:
        self._options = options
        self._client: Any = None

    def fetch(self, path: str) -> str:
        """See :class:`SecretStore`."""
        try:
            from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
        except ImportError:
            raise SecretStoreError(
                "secrets of AWS need a library that is not installed", MISSING_LIBRARY
            ) from None
        name, key = _split(path)
        try:
            if self._client is None:
                self._client = self._open()
            answer = self._client.get_secret_value(SecretId=name)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            raise SecretStoreError(
                f"AWS Secrets Manager: {name}: {code}", _AWS_HINTS.get(code)
            ) from None
        except BotoCoreError as error:
            raise SecretStoreError(
                f"AWS Secrets Manager: {name}: {error}",
                "check region, network and the machine's own credentials",
            ) from None
        text = answer.get("SecretString")
        if not isinstance(text, str):
            raise SecretStoreError(f"AWS Secrets Manager: {name} is binary, not text")
        return _member(text, name, key)

    def _open(self) -> Any:
        from botocore.config import Config  # noqa: PLC0415
        from botocore.session import Session  # noqa: PLC0415

        options = self._options
        keys = {}
        if options.access_key is not None and options.secret_key is not None:
            keys = AwsKeys(options.access_key.reveal(), options.secret_key.reveal()).arguments()
        return Session().create_client(
            "secretsmanager",
            region_name=options.region,
            endpoint_url=options.endpoint,
            verify=None if options.ca is None else str(options.ca),
            config=Config(
                connect_timeout=options.timeout,
                read_timeout=options.timeout,
                retries={"total_max_attempts": 3},
            ),
            **keys,
        )


_AWS_HINTS: Final = {
    "ResourceNotFoundException": "check the secret's name and the region",
    "AccessDeniedException": "allow secretsmanager:GetSecretValue for it, and its key in KMS",
    **LOGIN_HINTS,
}


class VaultSecrets:
    """Vault's key-value engine, version 2. ``path#key``; the key may be left out where a secret
    has one only, or one called ``value``."""

    def __init__(self, options: SecretsOptions) -> None:
        self._options = options
        self._base = (options.url or "").rstrip("/")
        context = ssl.create_default_context(cafile=options.ca)
        # Neither the environment's proxies nor a redirect may see a token.
        self._opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context), _NoRedirect())
        self._token = None if options.token is None else options.token.reveal()

    def fetch(self, path: str) -> str:
        """See :class:`SecretStore`."""
        name, key = _split(path.strip("/"))
        if self._token is None:
            self._token = self._login()
        mount = quote(self._options.mount.strip("/"))
        answer = self._ask(f"{mount}/data/{quote(name)}", name)
        try:
            data = answer["data"]["data"]
        except (KeyError, TypeError):
            data = None
        if not isinstance(data, dict):
            raise SecretStoreError(
                f"Vault: {name} is no secret of a KV engine of version 2", "check 'mount'"
            )
        if key is None:
            key = "value" if "value" in data or len(data) != 1 else next(iter(data))
        if not isinstance(data.get(key), str | int | float):
            raise SecretStoreError(
                f"Vault: {name} has no key {key!r}", f"it has {', '.join(sorted(data)) or 'none'}"
            )
        return str(data[key])

    def _login(self) -> str:
        secret = self._options.secret_id
        body = {
            "role_id": self._options.role_id,
            "secret_id": "" if secret is None else secret.reveal(),
        }
        answer = self._ask("auth/approle/login", "the login", json.dumps(body).encode())
        token = (answer.get("auth") or {}).get("client_token")
        if not isinstance(token, str):
            raise SecretStoreError("Vault: the login brought no token")
        return token

    def _ask(self, path: str, name: str, body: bytes | None = None) -> dict[str, Any]:
        headers = {"X-Vault-Request": "true"}
        if self._token is not None:
            headers["X-Vault-Token"] = self._token
        if self._options.namespace is not None:
            headers["X-Vault-Namespace"] = self._options.namespace
        # Its scheme has been checked with the options.
        asked = Request(f"{self._base}/v1/{path}", body, headers)  # noqa: S310
        try:
            with self._opener.open(asked, timeout=self._options.timeout) as response:
                answer = json.loads(response.read(_LARGEST))
        except HTTPError as error:
            with error:
                raise SecretStoreError(
                    f"Vault: {name}: HTTP {error.code}", _VAULT_HINTS.get(error.code)
                ) from None
        except URLError as error:
            raise SecretStoreError(
                f"Vault: {self._base}: {error.reason}", "check url, ca and the network"
            ) from None
        except (OSError, ValueError) as error:
            raise SecretStoreError(f"Vault: {self._base}: {error}", "is it Vault?") from None
        if not isinstance(answer, dict):
            raise SecretStoreError(f"Vault: {self._base}: the answer is not Vault's")
        return answer


_VAULT_HINTS: Final = {
    400: "check role_id and secret_id, or the path",
    403: "the token is not valid or its policy does not let it read there",
    404: "check the path, and 'mount'",
    503: "Vault is sealed or in maintenance",
}


class _NoRedirect(HTTPRedirectHandler):
    """A redirect is an error: the token is for one server."""

    def redirect_request(self, *_args: Any, **_more: Any) -> None:
        return None


def _split(path: str) -> tuple[str, str | None]:
    name, mark, key = path.partition("#")
    if not name or (mark and not key):
        raise SecretStoreError("expected the secret's path, or PATH#KEY")
    return name, key if mark else None


def _member(text: str, name: str, key: str | None) -> str:
    if key is None:
        return text
    try:
        value = json.loads(text)[key]
    except (ValueError, TypeError, KeyError, IndexError):
        raise SecretStoreError(f"{name} is no JSON object with a key {key!r}") from None
    if not isinstance(value, str | int | float) or len(str(value)) > MAX_SECRET:
        raise SecretStoreError(f"the key {key!r} of {name} is no text")
    return str(value)
