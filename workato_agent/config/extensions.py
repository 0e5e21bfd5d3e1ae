"""Profiles of the ``extensions`` section."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, AliasChoices, BeforeValidator, ConfigDict, Field, JsonValue

from .errors import suggestion
from .fields import ConfigPath, PositiveSeconds, Size, Text, refuse
from .policies import Policy
from .profiles import ProfileConfig, Variant

_CLASS: Final = re.compile(r"[A-Za-z_][\w-]*([.:][A-Za-z_]\w*)*")
_LEAST_MEMORY: Final = 32 * 2**20


def _controller(value: object) -> object:
    if isinstance(value, str) and _CLASS.fullmatch(value.strip()) is None:
        refuse(
            "expected the name of a Python class, or of an installed extension",
            "for example package.module.Class",
        )
    return value.strip() if isinstance(value, str) else value


def _memory(value: int) -> int:
    if 0 < value < _LEAST_MEMORY:
        refuse("expected at least 32MiB, or 0 for no limit", "for example 512MiB")
    return value


def _further_keys(schema: dict[str, Any]) -> None:
    """In the JSON Schema: any other key is the extension's own."""
    schema["properties"].pop("settings", None)
    schema["required"] = ["controllerClass"]
    schema["additionalProperties"] = {"description": "the extension's own setting"}


class ExtensionPolicy(Policy):
    """Policy of an extension. Its operations are the methods in lower case."""

    known_operations: ClassVar[tuple[str, ...]] = (
        "get",
        "head",
        "post",
        "put",
        "patch",
        "delete",
        "options",
    )


class ExtensionProfile(ProfileConfig):
    """A Python class that serves calls, in a process of its own.

    :ivar controller: ``package.module.Class``, or the name of an entry point.
    :ivar settings: the extension's: in the file, any other key of the profile, with its values as
        text. May hold secrets.
    :ivar python_path: a folder to import from.
    :ivar concurrency: calls at the same time.
    :ivar memory_limit: bytes of the process' own memory; 0: none.
    :ivar start_timeout: seconds to import and make the class.
    """

    model_config = ConfigDict(json_schema_extra=_further_keys)
    service: ClassVar[str] = "extensions"

    controller: Annotated[Text, BeforeValidator(_controller, json_schema_input_type=str)] = Field(
        validation_alias=AliasChoices("controllerClass", "controller")
    )
    settings: dict[str, JsonValue] = Field(default_factory=dict, repr=False)
    python_path: ConfigPath | None = None
    concurrency: Annotated[int, Field(ge=1, le=32)] = 1
    memory_limit: Annotated[Size, AfterValidator(_memory)] = 512 * 2**20
    start_timeout: PositiveSeconds = 30
    policy: ExtensionPolicy = ExtensionPolicy()

    @classmethod
    def variant(cls, data: dict[str, object]) -> Variant:
        """Keys that are not ours are the extension's."""
        known = {"controllerClass", *cls.model_fields} - {"controller", "settings"}
        ours = {key: value for key, value in data.items() if key in known}
        theirs = {key: value for key, value in data.items() if key not in known}
        remarks = []
        for key in theirs:
            meant = suggestion(key, known)
            if meant:
                remarks.append(f"{key} is passed to the extension: {meant}")
        return Variant(cls, {**ours, "settings": theirs}, remarks=tuple(remarks))
