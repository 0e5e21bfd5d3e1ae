"""Objects of Java that are made from a class' name and a config's text.

What a ConnectionFactory can be told is in its manual as bean properties (JavaBeans 1.01, chapter
7): ``setHostName(String)`` is the property ``hostName``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, Final

from workato_tunnel.problems import Problem

_INTEGERS: Final = {
    "byte": 7, "short": 15, "int": 31, "long": 63,
    "java.lang.Byte": 7, "java.lang.Short": 15, "java.lang.Integer": 31, "java.lang.Long": 63,
}  # fmt: skip
_FLOATS: Final = ("float", "double", "java.lang.Float", "java.lang.Double")
_TEXT: Final = ("java.lang.String", "java.lang.CharSequence", "java.lang.Object")
_FROM_TEXT: Final = ("java.net.URI", "java.net.URL", "java.io.File")
_URL_NAMES: Final = ("url", "uri", "remoteuri", "brokerurl", "serverurl", "address")


def thd_bean(jpype: Any, found: Any, properties: Mapping[str, str]) -> Any:
    """An object of a class (``java.lang.Class``) with its properties set, in order.

    A class without a constructor of no arguments gets the first property that is called like a URL
    as its only argument. Raises Problem for properties that it doesn't have or that have another
    type, and ``jpype.JException`` as the class does.
    """
    left = dict(properties)
    made = _thd_made(jpype, found, left)
    for name, value in left.items():
        _thd_set(jpype, made, name, value)
    return made


def _thd_made(jpype: Any, found: Any, left: dict[str, str]) -> Any:
    constructors = list(found.getConstructors())
    if any(each.getParameterCount() == 0 for each in constructors):
        return found.getDeclaredConstructor().newInstance()
    url = next((name for name in left if name.lower() in _URL_NAMES), None)
    for each in constructors:
        if each.getParameterCount() == 1 and url is not None:
            convert = _converter(jpype, each.getParameterTypes()[0])
            if convert is not None:
                return each.newInstance(_objects(jpype, convert(left.pop(url))))
    raise Problem(
        "target_not_found",
        f"{found.getName()} can't be made from the profile's keys: it has no constructor without "
        "arguments",
        hint=f"give its URL as a key ({', '.join(_URL_NAMES[:4])}), or look the factory up by jndi",
    )


def _thd_set(jpype: Any, made: Any, name: str, value: str) -> None:
    setters: dict[str, list[tuple[Any, Callable[[str], object]]]] = {}
    for method in made.getClass().getMethods():
        called = str(method.getName())
        if called.startswith("set") and method.getParameterCount() == 1:
            convert = _converter(jpype, method.getParameterTypes()[0])
            if convert is not None:
                setters.setdefault(called[3:], []).append((method, convert))
    matching = setters.get(name[:1].upper() + name[1:]) or next(
        (found for each, found in setters.items() if each.lower() == name.lower()), None
    )
    if matching is None:
        known = {each[:1].lower() + each[1:] for each in setters}
        close = difflib.get_close_matches(name, known, 1)
        raise Problem(
            "target_not_found",
            f"{made.getClass().getName()} has no property {name}",
            hint=f"did you mean '{close[0]}'?" if close else f"it has {', '.join(sorted(known))}",
            extra={"field": name},
        )
    method, convert = matching[0]
    try:
        converted = convert(value)
    except ValueError as error:
        raise Problem(
            "target_not_found",
            f"the property {name} of {made.getClass().getName()}: expected {error}",
            hint="the value in config.yml does not fit the property's type",
            extra={"field": name},
        ) from None
    method.invoke(made, _objects(jpype, converted))


def _objects(jpype: Any, value: object) -> Any:
    return jpype.JArray(jpype.JObject)([value])


def _converter(jpype: Any, kind: Any) -> Callable[[str], object] | None:
    """What makes an object of a Java type from text; it raises ValueError that says what it takes.

    None for types that text can't be made into.
    """
    name = str(kind.getName())
    if name in _TEXT:
        return jpype.JString  # type: ignore[no-any-return]
    checked = _checked(name)
    if checked is not None:
        boxed = _boxed(jpype, name)
        return lambda text: boxed.valueOf(checked(text))
    if name in _FROM_TEXT:
        return jpype.JClass(name)  # type: ignore[no-any-return]
    if name == "[C":
        return lambda text: jpype.JString(text).toCharArray()
    if kind.isEnum():
        return lambda text: _constant(kind, text)
    return None


def _boxed(jpype: Any, name: str) -> Any:
    plain = {"int": "java.lang.Integer"}.get(name, f"java.lang.{name.capitalize()}")
    return jpype.JClass(name if "." in name else plain)


def _checked(name: str) -> Callable[[str], str] | None:
    """What a text has to be for the ``valueOf`` of a number's or boolean's class."""
    if name in ("boolean", "java.lang.Boolean"):
        return _boolean
    if name in _INTEGERS:
        return lambda text: _integer(text, _INTEGERS[name])
    return _number if name in _FLOATS else None


def _boolean(text: str) -> str:
    lower = text.strip().lower()
    if lower not in ("true", "false"):
        raise ValueError("true or false")
    return lower


def _integer(text: str, bits: int) -> str:
    try:
        value = int(text)
    except ValueError:
        raise ValueError("a whole number") from None
    if not -(2**bits) <= value < 2**bits:
        raise ValueError(f"a whole number of {bits + 1} bits")
    return str(value)


def _number(text: str) -> str:
    try:
        return repr(float(text))
    except ValueError:
        raise ValueError("a number") from None


def _constant(kind: Any, text: str) -> object:
    constants = {str(each.name()): each for each in kind.getEnumConstants()}
    for name, constant in constants.items():
        if name.lower() == text.strip().lower():
            return constant
    raise ValueError(f"one of {', '.join(constants)}")
