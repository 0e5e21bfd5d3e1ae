"""The JSON Schema of config.yml, for editors."""

from __future__ import annotations

from typing import Any, Final

from .fields import Model
from .profiles import ProfileConfig
from .sections import OPTIONS, PROFILES

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_NAME: Final = "^[A-Za-z0-9_-]{1,128}$"
_REFERENCE: Final = {
    "title": "A reference to a secret",
    "type": "object",
    "minProperties": 1,
    "maxProperties": 1,
    "properties": {
        "env": {"type": "string", "description": "an environment variable of the agent"},
        "file": {"type": "string", "description": "a file; relative to the config's folder"},
    },
    "additionalProperties": False,
}
_SCALARS: Final = frozenset({"string", "integer", "number", "boolean"})


def config_schema() -> dict[str, Any]:
    """The schema of the whole file, as ``workato-agent check --schema`` prints it."""
    definitions: dict[str, Any] = {"reference": _REFERENCE}
    properties: dict[str, Any] = {}
    for name, model in OPTIONS.items():
        properties[name] = _nullable(_schema(model, definitions))
    for name, kind in PROFILES.items():
        properties[name] = _nullable(_section(kind, definitions))
    return {
        "$schema": DIALECT,
        "title": "config.yml of the on-prem agent",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": definitions,
    }


def _section(kind: type[ProfileConfig], definitions: dict[str, Any]) -> dict[str, Any]:
    variants = [_schema(model, definitions) for model in kind.variants()]
    options = _schema(kind.options, definitions)["properties"] if kind.options else {}
    return {
        "type": "object",
        "properties": options,
        "additionalProperties": variants[0] if len(variants) == 1 else {"anyOf": variants},
        "propertyNames": {"pattern": _NAME},
    }


def _schema(model: type[Model], definitions: dict[str, Any]) -> dict[str, Any]:
    """A model's schema; the models within it go to the definitions."""
    schema = model.model_json_schema(ref_template="#/$defs/{model}")
    for name, inner in schema.pop("$defs", {}).items():
        definitions[name] = _for_readers(inner)
    return _for_readers(schema)


def _for_readers(schema: dict[str, Any]) -> dict[str, Any]:
    """A mapping's schema with a reference accepted wherever it has a plain value."""
    if "description" in schema:
        summary = schema["description"].partition("\n\n")[0]
        schema["description"] = " ".join(summary.replace("``", "'").split())
    for name, value in schema.get("properties", {}).items():
        value.pop("title", None)
        kinds = [_plain(kind) for kind in value.pop("anyOf", [value])]
        if any(_SCALARS.intersection(_types(kind)) for kind in kinds):
            about = {key: value[key] for key in ("default", "description") if key in value}
            kinds.append({"$ref": "#/$defs/reference"})
            schema["properties"][name] = {**about, "anyOf": kinds}
        elif kinds[0] is not value:
            value["anyOf"] = kinds
    further = [schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()]
    for value in further:
        if isinstance(value, dict) and _SCALARS.intersection(_types(value)):
            kind = dict(value)
            value.clear()
            value["anyOf"] = [kind, {"$ref": "#/$defs/reference"}]
    return schema


def _plain(kind: dict[str, Any]) -> dict[str, Any]:
    """Without the bounds of values that are written as text, which JSON Schema can't express."""
    for bound in ("ge", "gt", "le", "lt"):
        kind.pop(bound, None)
    return kind


def _types(kind: dict[str, Any]) -> set[str]:
    found = kind.get("type", ())
    types = {found} if isinstance(found, str) else set(found)
    return types.union(*(_types(inner) for inner in kind.get("anyOf", ())))


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}
