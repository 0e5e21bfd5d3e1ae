"""Profiles of the ``command_line_scripts`` section."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ..system import ON_WINDOWS, is_superuser
from .fields import ConfigPath, Model, PositiveSeconds, Text, refuse
from .placeholders import PLACEHOLDER, placeholders
from .policies import Policy
from .profiles import ProfileConfig
from .secrets import Secret

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_POSIX_SHELLS: Final = re.compile(r"(?:ba|da|k|z|a)?sh")
_SHELLS: Final = re.compile(
    rf"{_POSIX_SHELLS.pattern}|(?:c|tc|fi)sh|cmd(?:\.exe)?|powershell(?:\.exe)?|pwsh"
)
_ESCAPE: Final = '"' if ON_WINDOWS else "\\"


class ScriptsPolicy(Policy):
    """Policy of scripts: running them, and reading the results of background runs."""

    known_operations: ClassVar[tuple[str, ...]] = ("run", "runs")


class QuoteOptions(Model):
    """How a value is wrapped. ``quote`` stands for equal ``start`` and ``end``."""

    start: str = ""
    end: str = ""
    quote: str = ""
    escape_char: str = _ESCAPE

    @model_validator(mode="after")
    def _both(self) -> QuoteOptions:
        if not (self.quote or (self.start and self.end)):
            refuse("expected quote, or start and end")
        return self


def _quote(value: object) -> object:
    if isinstance(value, str):
        if not value:
            refuse("expected a quoting character")
        return {"quote": value}
    return value


def _choice(value: object) -> object:
    """``[label, value]``, or the value alone."""
    if isinstance(value, list) and len(value) == 2:
        return tuple(str(each) for each in value)
    if isinstance(value, str | int | float):
        return (str(value), str(value))
    return refuse("expected [label, value] or a value")


class ParameterSchema(Model):
    """What may be given: shown to callers and held against what they send."""

    optional: bool = False
    label: str = ""
    hint: str = ""
    type: str = "string"
    control_type: Literal["text", "select", "number", "checkbox", "text-area", "date"] = "text"
    pick_list: tuple[Annotated[tuple[str, str], BeforeValidator(_choice)], ...] = ()
    pattern: str | None = None

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            refuse(f"expected a regular expression: {error.msg}")
        return value


class ScriptParameter(Model):
    """A parameter of a script."""

    name: Text
    quote: Annotated[QuoteOptions, BeforeValidator(_quote)] | None = None
    schema_: ParameterSchema = Field(ParameterSchema(), alias="schema")

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", value):
            refuse("a parameter's name is made of A-Z a-z 0-9 _ . -")
        return value


class ConditionalElement(Model):
    """An argument that is there only with a parameter."""

    value: str
    condition: Text = Field(alias="if")

    @field_validator("condition")
    @classmethod
    def _name(cls, value: str) -> str:
        return re.sub(r"\{\{\s*(.*?)\s*\}\}", r"\1", value)


def _element(value: object) -> object:
    return str(value) if isinstance(value, int | float) else value


class ScriptOptions(Model):
    """A command, as a list of arguments, and what callers may put into it."""

    name: Text
    command: Annotated[
        tuple[Annotated[str | ConditionalElement, BeforeValidator(_element)], ...],
        Field(min_length=1),
    ]
    parameters: tuple[ScriptParameter, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_argument(cls, data: object) -> object:
        """A command that is one text is a program without arguments."""
        if isinstance(data, dict) and isinstance(data.get("command"), str):
            return {**data, "command": [data["command"]]}
        return data

    @model_validator(mode="after")
    def _placeholders(self) -> ScriptOptions:
        known = [parameter.name for parameter in self.parameters]
        doubled = {name for name in known if known.count(name) > 1}
        if doubled:
            refuse(f"two parameters are called {min(doubled)}", at="parameters")
        for element in self.command:
            template = element if isinstance(element, str) else element.value
            try:
                used = list(placeholders(template))
            except ValueError as error:
                refuse(str(error), "for example '{{file}}'", at="command")
            if not isinstance(element, str):
                used.append(element.condition)
            for name in used:
                if name not in known:
                    refuse(
                        f"'{name}' is not among the parameters",
                        f"there are: {', '.join(known) or 'none'}",
                        at="command",
                    )
        first = self.command[0]
        if not isinstance(first, str) or "{{" in first:
            refuse("the program itself can be no parameter", at="command")
        return self

    @property
    def posix_shell(self) -> bool:
        """Whether the program is a shell to which quotes mean what POSIX says."""
        first = self.command[0]
        return isinstance(first, str) and bool(_POSIX_SHELLS.fullmatch(Path(first).name))

    def exposed(self) -> Sequence[str]:
        """Parameters that go into a shell's own text without quotes."""
        texts = [element if isinstance(element, str) else element.value for element in self.command]
        if not _SHELLS.fullmatch(Path(texts[0]).name.lower()):
            return ()
        unquoted = {parameter.name for parameter in self.parameters if parameter.quote is None}
        inside = {
            name for text in texts if not PLACEHOLDER.fullmatch(text) for name in placeholders(text)
        }
        return sorted(inside & unquoted)


class ScriptsProfile(ProfileConfig):
    """Commands that callers may run. ``timeout`` in seconds.

    :ivar concurrency_limit: how many run at the same time; others wait.
    :ivar run_as: the user that scripts run as.
    :ivar allow_root: run them as root, where the agent is root and nothing else is said.
    """

    service: ClassVar[str] = "scripts"

    concurrency_limit: Annotated[int, Field(ge=1, le=1000)] = 10
    timeout: PositiveSeconds = 90
    scripts: Annotated[Mapping[str, ScriptOptions], Field(min_length=1)]
    output_limit: Annotated[int, Field(ge=0, le=10_000_000)] = 50_000
    directory: ConfigPath = Path("/")
    environment: Mapping[str, Secret] = {}
    run_as: Text | None = None
    allow_root: bool = False
    policy: ScriptsPolicy = ScriptsPolicy()

    @field_validator("scripts", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        for name in value if isinstance(value, dict) else ():
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                refuse("a script's id is made of A-Z a-z 0-9 _ -", at=str(name))
        return value

    @field_validator("run_as")
    @classmethod
    def _known_user(cls, value: str | None) -> str | None:
        if value is not None:
            import pwd  # noqa: PLC0415 - there is none on Windows

            try:
                pwd.getpwnam(value)
            except KeyError:
                refuse("there is no such user on this machine")
            if not is_superuser():
                refuse("only an agent that runs as root can run scripts as another user")
        return value

    @model_validator(mode="after")
    def _not_as_root(self) -> ScriptsProfile:
        if is_superuser() and self.run_as is None and not self.allow_root:
            refuse(
                "the agent runs as root, and scripts would too",
                "run the agent as a user of its own, or add run_as: USER (or allow_root: true)",
            )
        return self

    def remarks(self) -> tuple[str, ...]:
        return tuple(
            f"script {name}: {', '.join(exposed)} go into a shell without 'quote': a caller can run"
            " any command there"
            for name, script in self.scripts.items()
            if (exposed := script.exposed())
        )
