"""From a command with placeholders and the caller's values to an argument list. Pure.

Placeholders are Mustache variables (``{{name}}``; ``{{{name}}}`` and ``{{&name}}`` mean the same
here: nothing is escaped for HTML). An element is always one argument, whatever is in the values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from workato_tunnel.problems import Problem

from ...config.placeholders import PLACEHOLDER
from .settings import Parameter, Script

MAX_VALUE: Final = 100 * 1024
"""Bytes of one value: Linux takes 128 KiB in one argument."""


def arguments(script: Script, given: Mapping[str, object]) -> list[str]:
    """The argument list for values. Raises Problem ``bad_request`` that names the parameter."""
    known = {parameter.name: parameter for parameter in script.parameters}
    unknown = [name for name in given if name not in known]
    if unknown:
        name = unknown[0][:100]
        names = ", ".join(known) or "none"
        raise _bad(name, f"the script has no parameter {name!r}; it has {names}")
    plain = {name: _text(parameter, given.get(name)) for name, parameter in known.items()}
    quoted = {
        name: "" if value is None else _quoted(known[name], value) for name, value in plain.items()
    }
    found = []
    for element in script.command:
        if element.condition is not None and not _holds(plain.get(element.condition)):
            continue
        found.append(
            PLACEHOLDER.sub(lambda match: quoted[match[1] or match[2] or ""], element.template)
        )
    return found


def _holds(value: str | None) -> bool:
    return value not in (None, "", "false")


def _quoted(parameter: Parameter, value: str) -> str:
    return value if parameter.quote is None else parameter.quote.around(value)


def _text(parameter: Parameter, value: object) -> str | None:
    """The value as text; None where there is none."""
    name = parameter.name
    if value is None:
        if not parameter.optional:
            raise _bad(name, f"the parameter {name!r} is missing")
        return None
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str | int | float):
        text = str(value)
    else:
        raise _bad(name, f"the parameter {name!r} is text, a number or a boolean")
    if "\0" in text:
        raise _bad(name, f"the parameter {name!r} holds a NUL character")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise _bad(name, f"the parameter {name!r} is no Unicode text") from None
    if size > MAX_VALUE:
        raise _bad(name, f"the parameter {name!r} is longer than {MAX_VALUE} bytes")
    if parameter.choices and text not in {choice for _, choice in parameter.choices}:
        choices = ", ".join(repr(choice) for _, choice in parameter.choices)
        raise _bad(name, f"the parameter {name!r} is one of {choices[:500]}")
    if parameter.pattern is not None and not re.fullmatch(parameter.pattern, text):
        raise _bad(name, f"the parameter {name!r} does not match {parameter.pattern}")
    return text


def _bad(name: str, detail: str) -> Problem:
    return Problem(
        "bad_request",
        detail,
        hint="GET the profile to see its scripts and their parameters",
        extra={"field": f"parameters.{name}"},
    )
