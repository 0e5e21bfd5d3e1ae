"""Values that never show, and where they come from.

Any value of the file may be written as a reference: ``{env: NAME}``, ``{file: PATH}``,
``{encrypted: '…'}`` or ``{secret: PATH}``.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from attrs import Factory, define
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from .errors import Location

if TYPE_CHECKING:
    from ..identity.sealing import SealingKey
    from .secretstores import SecretStore

MAX_SECRET: Final = 64 * 1024
_SOURCES: Final = frozenset({"env", "file", "encrypted", "secret"})
_MASK: Final = "(secret)"


class Secret:
    """A text that shows itself to nobody but who calls :meth:`reveal`."""

    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        self.__text = text

    def reveal(self) -> str:
        """The text itself: hand it to the target, never to a log or an error."""
        return self.__text

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__text.encode(), other.reveal().encode())

    def __hash__(self) -> int:
        return hash(self.__text)

    def __bool__(self) -> bool:
        return bool(self.__text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._accept,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda secret: _MASK),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, object]:
        return {"type": ["string", "number"]}

    @classmethod
    def _accept(cls, value: object) -> Secret:
        if isinstance(value, Secret):
            return value
        if isinstance(value, str):
            return cls(value)
        raise PydanticCustomError("secret", "expected text or a reference such as {{env: NAME}}")


@define
class References:
    """Resolves the references of a file.

    ``texts`` keeps every text that came out of one, so that no error and no hash shows it.

    :ivar folder: what relative paths start from.
    :ivar identity: the folder of the key that opens encrypted texts; set once it is known.
    :ivar store: where ``{secret: …}`` is fetched; set once it is known.
    :ivar fetch: whether to fetch; else such a value is only masked.
    """

    folder: Path
    environ: Mapping[str, str] = Factory(lambda: os.environ)
    problems: list[tuple[Location, str, str | None]] = Factory(list)
    texts: set[str] = Factory(set)
    places: set[Location] = Factory(set)
    identity: Path | None = None
    store: SecretStore | None = None
    fetch: bool = True
    _fetched: dict[str, str] = Factory(dict)
    _key: SealingKey | None = None

    def resolve(self, value: object, at: Location = ()) -> object:
        """The value with its references replaced by what they stand for.

        A reference that fails is recorded in ``problems`` and becomes an empty text.
        """
        if isinstance(value, list):
            return [self.resolve(item, (*at, index)) for index, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        # A section itself is never a reference, so `logging: {file: debug}` names a logger.
        if len(at) > 1 and len(value) == 1:
            ((source, target),) = value.items()
            if source in _SOURCES and isinstance(target, str):
                self.places.add(at)
                text = self._text(source, target, at)
                if text:
                    self.texts.add(text)
                return text
        return {key: self.resolve(item, (*at, key)) for key, item in value.items()}

    def _text(self, source: str, target: str, at: Location) -> str:
        if source == "env":
            text = self.environ.get(target, "")
            if not text:
                state = "empty" if target in self.environ else "not set"
                message = f"the environment variable {target} is {state}"
                self._fail(at, message, "systemd: EnvironmentFile= in the agent's unit")
            return text
        if source == "file":
            return self._from_file(target, at)
        if source == "encrypted":
            return self._opened(target, at)
        return self._from_store(target, at)

    def _from_store(self, target: str, at: Location) -> str:
        if self.store is None:
            self._fail(
                at,
                "there is no section 'secrets' that says where secrets are",
                "add secrets: { provider: aws, region: … } or { provider: vault, url: … }",
            )
            return ""
        if not self.fetch:
            return _MASK
        if target not in self._fetched:
            from .secretstores import SecretStoreError  # noqa: PLC0415 - only who has such values

            try:
                self._fetched[target] = self.store.fetch(target)
            except SecretStoreError as error:
                self._fail(at, str(error), error.hint)
                return ""
        return self._fetched[target]

    def _opened(self, target: str, at: Location) -> str:
        if self.identity is None:
            self._fail(at, "the gateway section can hold no encrypted text", None)
            return ""
        # Imported here: only who has encrypted texts pays for the cipher.
        from ..identity.sealing import SealError, SealingKey  # noqa: PLC0415

        try:
            if self._key is None:
                self._key = SealingKey.load(self.identity)
            return self._key.open(target)
        except SealError as error:
            self._fail(at, str(error), "make it anew with workato-agent encrypt")
            return ""

    def _from_file(self, target: str, at: Location) -> str:
        if credentials := self.environ.get("CREDENTIALS_DIRECTORY"):
            target = target.replace("$CREDENTIALS_DIRECTORY", credentials)
        path = self.folder / target
        try:
            with path.open("rb") as stream:
                content = stream.read(MAX_SECRET + 1)
            if len(content) > MAX_SECRET:
                self._fail(at, f"the file {path} holds more than {MAX_SECRET} bytes", None)
                return ""
            text = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except OSError as error:
            hint = "the agent's user must be able to read it"
            self._fail(at, f"the file {path} can't be read: {error.strerror}", hint)
            return ""
        except UnicodeDecodeError:
            self._fail(at, f"the file {path} is not UTF-8 text", None)
            return ""
        if not text:
            self._fail(at, f"the file {path} is empty", None)
        return text

    def _fail(self, at: Location, message: str, hint: str | None) -> None:
        self.problems.append((at, message, hint))

    def masked(self, value: object) -> object:
        """A dumped config with every text that came out of a reference covered."""
        if isinstance(value, dict):
            return {key: self.masked(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.masked(item) for item in value]
        return _MASK if value is not None and str(value) in self.texts else value
