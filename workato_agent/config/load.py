"""config.yml to an :class:`AgentConfig`, or every fault of it at once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
from attrs import Factory, define, field
from pydantic import AliasChoices, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from .database.jdbc import JdbcProfile
from .errors import ConfigError, ConfigProblem, Location, dotted, suggestion
from .fields import Model
from .options import DEFAULT_IDENTITY, ServerOptions
from .profiles import ProfileConfig
from .schema import AgentConfig
from .secrets import References, Secret
from .secretstores import SecretsOptions
from .sections import NOT_SERVED, OPTIONS, PROFILES
from .yamltree import MAX_BYTES, Tree, read_tree

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_SHOWN: Final = 60

Profiles = dict[str, dict[str, ProfileConfig]]


def load_config(
    file: Path, environ: Mapping[str, str] | None = None, *, fetch: bool = True
) -> AgentConfig:
    """Read and validate a file. Raises ConfigError with every fault.

    :param environ: what ``{env: NAME}`` reads; the process's own environment unless given.
    :param fetch: whether to fetch what ``{secret: PATH}`` stands for (blocks); else the config is
        good for looking at only.
    """
    return parse_config(_read(file), file, environ, fetch=fetch)


def load_options(file: Path, sections: Collection[str]) -> AgentConfig:
    """Only some sections of agent settings; the others are not looked at.

    For commands whose user may not read the agent's secrets. Raises ConfigError.
    """
    wanted = OPTIONS.keys() & set(sections)
    # A proxy's password may be kept in the secret store.
    return _Loader.of(_read(file), file, None).load(
        wanted | ({"secrets"} if "proxy" in wanted else set())
    )


def parse_config(
    text: str, file: Path, environ: Mapping[str, str] | None = None, *, fetch: bool = True
) -> AgentConfig:
    """As :func:`load_config`, for a text that was read from ``file``."""
    return _Loader.of(text, file, environ, fetch=fetch).load(None)


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        problem = ConfigProblem("", f"can't be read: {error.strerror}", hint="see --config")
        raise ConfigError(file, [problem]) from error
    if len(content) > MAX_BYTES:
        raise ConfigError(file, [ConfigProblem("", f"larger than {MAX_BYTES} bytes")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(file, [ConfigProblem("", "not UTF-8 text", line)]) from error


@define
class _Loader:
    """One reading of one file: collects problems instead of stopping at the first."""

    file: Path
    tree: Tree
    references: References
    problems: list[ConfigProblem] = field()
    failed_references: set[Location] = Factory(set)
    remarks: list[str] = Factory(list)
    secrets: SecretsOptions | None = None

    @classmethod
    def of(
        cls, text: str, file: Path, environ: Mapping[str, str] | None, *, fetch: bool = True
    ) -> _Loader:
        tree = read_tree(text)
        folder = file.absolute().parent
        references = References(folder) if environ is None else References(folder, environ)
        references.fetch = fetch
        return cls(file, tree, references, list(tree.problems))

    def load(self, only: Collection[str] | None) -> AgentConfig:
        """The config, or of the named sections alone. Raises ConfigError."""
        value = {} if self.tree.value is None else self.tree.value
        if not isinstance(value, dict):
            self.add((), "expected a mapping of sections, as 'database:' and 'files:'")
            value = {}
        if only is not None:
            value = {name: content for name, content in value.items() if name in only}
        value = self.resolve(value)
        options: dict[str, Any] = {}
        profiles: Profiles = {}
        for name, content in value.items():
            if name == "secrets":
                if self.secrets is not None:
                    options[name] = self.secrets
            elif name in OPTIONS:
                if content is not None:
                    options[name] = self.validate(OPTIONS[name], content, (name,))
            elif name in PROFILES:
                self.take(profiles, name, self.profiles(name, content))
            else:
                self.unknown_section(name)
        if "agent" in options:
            self.remarks.append("agent: has no effect; responses stream and are never buffered")
        self.check_classpath(options.get("server"), profiles)
        if self.problems:
            raise ConfigError(self.file, self.problems)
        return AgentConfig(
            file=self.file,
            profiles=profiles,
            config_hash=self.hash(options, profiles),
            remarks=(*self.remarks, *_remarks(profiles)),
            **options,
        )

    def resolve(self, value: dict[str, object]) -> dict[str, object]:
        resolved = dict(value)
        # First what says where the key for encrypted texts is, and where secrets are fetched.
        for name in sorted(value, key=lambda name: (name != "gateway", name != "secrets")):
            if name != "gateway" and self.references.identity is None:
                self.references.identity = self.identity(resolved.get("gateway"))
            resolved[name] = self.references.resolve(value[name], (name,))
            if name == "secrets" and value[name] is not None:
                self.secrets = self.validate(SecretsOptions, resolved[name], (name,))
                if self.secrets is not None:
                    self.references.store = self.secrets.open()
        for location, message, hint in self.references.problems:
            self.failed_references.add(location)
            self.add(location, message, hint)
        return resolved

    def identity(self, gateway: object) -> Path:
        """The identity folder as far as it can be told before the section is validated."""
        stated = gateway.get("identity") if isinstance(gateway, dict) else None
        if not isinstance(stated, str):
            return DEFAULT_IDENTITY
        return self.references.folder / Path(stated).expanduser()

    def check_classpath(self, server: object, profiles: Profiles) -> None:
        """A missing jar is a fault where a driver may be in it.

        A missing folder is none: the documented format's class paths name the folders of an
        installation, and a driver that is not found says so when it is needed.
        """
        if not isinstance(server, ServerOptions):
            return
        if server.staging is not None:
            self.remarks.append("server.staging: results stream, nothing is staged on disk")
        needed = any(
            isinstance(profile, JdbcProfile)
            for entries in profiles.values()
            for profile in entries.values()
        )
        for entry in server.missing():
            message = f"{entry}: there is no such file or folder"
            if needed and re.search(r"(?i)\.jar$|[*?\[]", entry.name):
                self.add(("server", "classpath"), message, "name the jar of the JDBC driver")
            else:
                self.remarks.append(f"server.classpath: {message}")

    def unknown_section(self, name: str) -> None:
        if name in NOT_SERVED:
            message = f"section '{name}' is not served by this version"
            self.add((name,), message, "remove it or use a version that serves it")
        else:
            served = (*OPTIONS, *PROFILES)
            hint = suggestion(name, (*served, *NOT_SERVED))
            self.add((name,), "unknown section", hint or f"known: {', '.join(served)}")

    def take(self, profiles: Profiles, section: str, found: Mapping[str, ProfileConfig]) -> None:
        """Add a section's profiles to those of its service, which another one may have as well."""
        service = PROFILES[section].service
        known = profiles.setdefault(service, {})
        for name in found.keys() & known.keys():
            message = f"{service} has a profile of this name already, from another section"
            self.add((section, name), message, "callers tell them apart by name: rename one")
        known.update(found)

    def profiles(self, section: str, content: object) -> dict[str, ProfileConfig]:
        kind = PROFILES[section]
        if content is None:
            return {}
        if not isinstance(content, dict):
            self.add((section,), "expected a mapping of profile names")
            return {}
        own = _names(kind.options) if kind.options is not None else set()
        defaults = {key: value for key, value in content.items() if key in own}
        if kind.options is not None:
            self.validate(kind.options, defaults, (section,))
        found: dict[str, ProfileConfig] = {}
        for name, data in content.items():
            if name in own:
                continue
            location = (section, name)
            if _NAME.fullmatch(name) is None:
                self.add(location, "a profile's name is made of A-Z a-z 0-9 _ -")
            elif not isinstance(data, dict):
                known = suggestion(name, own)
                self.add(location, "expected a mapping with the profile's keys", known)
            else:
                profile = self.profile(kind, data, defaults, location)
                if profile is not None:
                    found[name] = profile
        return found

    def profile(
        self,
        kind: type[ProfileConfig],
        data: dict[str, object],
        defaults: Mapping[str, object],
        location: Location,
    ) -> ProfileConfig | None:
        faults = len(self.problems)
        variant = kind.variant(data)
        for fault in variant.faults:
            place = (*location, fault.key) if fault.key else location
            self.add(place, fault.message, fault.hint)
        self.remarks += [f"{dotted(location)}: {remark}" for remark in variant.remarks]
        if variant.model is None:
            return None
        profile = self.validate(variant.model, {**defaults, **variant.data}, location)
        return profile if len(self.problems) == faults and profile is not None else None

    def validate(self, model: type[Model], content: object, location: Location) -> Any:
        """An instance of the model; None, with the problems added, where the content is not one."""
        try:
            return model.model_validate(content, context={"folder": self.references.folder})
        except ValidationError as error:
            for details in error.errors(include_url=False):
                self.explain(model, details, location)
            return None

    def explain(self, model: type[Model], details: ErrorDetails, location: Location) -> None:
        """One of pydantic's errors in the words of the file."""
        inner = _real_location(details["loc"])
        place = self.place((*location, *inner))
        if any(place[: len(failed)] == failed for failed in self.failed_references):
            return
        context = details.get("ctx", {})
        owner = _model_at(model, inner[:-1])
        match details["type"]:
            case "missing":
                self.add(place, "missing: this key is required")
            case "extra_forbidden":
                key = str(inner[-1])
                if owner is not None and key in owner.later:
                    self.add(place, f"'{key}' is not in this version", owner.later[key])
                else:
                    names = _names(owner) if owner is not None else set()
                    hint = suggestion(key, names) or f"known: {', '.join(sorted(names))}"
                    self.add(place, "unknown key", hint)
            case "too_short" if details["input"]:
                return  # its entries' own faults are reported
            case "refused":
                at = context.get("at")
                if isinstance(at, (str, int)):
                    place = self.place((*place, at))
                self.add(place, context["message"], context.get("hint"))
            case kind:
                expected = _EXPECTED.get(kind)
                message = expected.format(**context) if expected else details["msg"]
                # What stands nowhere by itself came out of a URL that may hold a password.
                written = place in self.tree.lines
                found = self.found(model, inner, kind, details["input"]) if written else ""
                self.add(place, f"{message}{found}")

    def place(self, location: Location) -> Location:
        """Where a value stands in the file: http's rules may stand in the profile or its policy."""
        if location not in self.tree.lines and "policy" in location:
            index = location.index("policy")
            direct = (*location[:index], *location[index + 1 :])
            if direct in self.tree.lines:
                return direct
        return location

    def found(self, model: type[Model], inner: Location, kind: str, value: object) -> str:
        """What stands there instead, unless it may be a secret."""
        if isinstance(value, dict):
            return ", found a mapping"
        if isinstance(value, (list, tuple)):
            return ", found a list"
        if value is None:
            return ", found nothing"
        if not isinstance(value, str) or kind not in _QUOTED or _is_secret(model, inner):
            return ""
        return "" if value in self.references.texts or len(value) > _SHOWN else f", found {value!r}"

    def add(self, location: Location, message: str, hint: object = None) -> None:
        if location in self.references.places:
            message = re.sub(r"'([^']+)'", self.covered, message)
        self.problems.append(
            ConfigProblem(
                dotted(location),
                message,
                self.tree.line(location),
                hint if isinstance(hint, str) else None,
            )
        )

    def covered(self, quoted: re.Match[str]) -> str:
        """A quotation in a message, unless it quotes what a reference brought."""
        texts = self.references.texts
        return "(secret)" if any(quoted[1] in text for text in texts) else quoted[0]

    def hash(self, options: Mapping[str, Model], profiles: Profiles) -> str:
        content: dict[str, object] = {
            name: section.model_dump(mode="json", by_alias=True)
            for name, section in options.items()
        }
        for service, entries in profiles.items():
            content[service] = {
                name: entry.model_dump(mode="json", by_alias=True)
                for name, entry in entries.items()
            }
        canonical = msgspec.json.encode(self.references.masked(content), order="deterministic")
        return hashlib.sha256(canonical).hexdigest()[:16]


_EXPECTED: Final = {
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "int_parsing": "expected a whole number",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_parsing": "expected a number",
    "float_type": "expected a number",
    "finite_number": "expected a number",
    "string_type": "expected text",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
    "set_type": "expected a list",
    "frozen_set_type": "expected a list",
    "dict_type": "expected a mapping",
    "mapping_type": "expected a mapping",
    "model_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
    "literal_error": "expected {expected}",
    "greater_than_equal": "expected at least {ge}",
    "greater_than": "expected more than {gt}",
    "less_than_equal": "expected at most {le}",
    "string_pattern_mismatch": "expected a name",
    "too_short": "expected at least {min_length} entry",
    "path_type": "expected a path",
    "secret": "expected text or a reference such as {{env: NAME}}",
}


_QUOTED: Final = frozenset(
    {"bool_parsing", "int_parsing", "float_parsing", "literal_error", "string_pattern_mismatch"}
)
"""Faults of single values. Text in a mapping's place may be a password put too high."""


def _remarks(profiles: Profiles) -> tuple[str, ...]:
    found = []
    for service, entries in profiles.items():
        for name, entry in entries.items():
            found += [f"{service}.{name}: {remark}" for remark in entry.remarks()]
    return tuple(found)


def _real_location(location: Location) -> Location:
    """Without what pydantic adds of its own: ``[key]`` of mappings, names of unions' members."""
    return tuple(
        part for part in location if isinstance(part, int) or not re.search(r"[\[\]()]", part)
    )


def _names(model: type[Model]) -> set[str]:
    """The keys that a reader may write for a model's fields."""
    names: set[str] = set()
    for name, info in model.model_fields.items():
        choices = info.validation_alias
        if isinstance(choices, AliasChoices):
            names.update(choice for choice in choices.choices if isinstance(choice, str))
        else:
            names.add(_alias(name, info))
    return names


def _alias(name: str, info: FieldInfo) -> str:
    return info.alias or name


def _field_at(model: type[Model], location: Location) -> FieldInfo | None:
    owner = _model_at(model, location[:-1])
    if owner is None or not location:
        return None
    for name, info in owner.model_fields.items():
        if location[-1] in (name, _alias(name, info)):
            return info
    return None


def _model_at(model: type[Model], location: Location) -> type[Model] | None:
    """The model of the mapping at a location, seen from a model at its root."""
    for depth, part in enumerate(location):
        if isinstance(part, int):
            continue
        info = _field_at(model, location[: depth + 1]) if depth == 0 else _field_at(model, (part,))
        inner = _model_within(info.annotation) if info is not None else None
        if inner is None:
            return None
        model = inner
    return model


def _model_within(annotation: object) -> type[Model] | None:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return annotation
    for argument in get_args(annotation):
        found = _model_within(argument)
        if found is not None:
            return found
    return None


def _is_secret(model: type[Model], location: Location) -> bool:
    info = _field_at(model, location)
    return info is not None and (info.annotation is Secret or Secret in get_args(info.annotation))
