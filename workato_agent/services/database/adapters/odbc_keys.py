"""Connection strings of ODBC: their quoting, and which driver and server they speak of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal

from attrs import frozen

from workato_tunnel.problems import Problem

_NAME: Final = re.compile(r"[^\[\]{}(),;?*=!@\\\x00]+")
_NEEDS_BRACES: Final = re.compile(r"^\{|;|^\s|\s$")
# psqlODBC decodes %41 and + where there are no braces.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:-]*")
_PACKAGES: Final[tuple[tuple[str, str], ...]] = (
    ("postgres|psqlodbc", "Debian: apt install odbc-postgresql"),
    ("maria|mysql", "Debian: apt install odbc-mariadb"),
    ("sqlite", "Debian: apt install libsqliteodbc"),
    ("freetds|tdsodbc", "Debian: apt install tdsodbc"),
    ("sql server|msodbcsql", "msodbcsql18 comes from Microsoft's own package repository"),
)
_LIBRARY: Final = "the driver manager is missing (Debian: apt install libodbc2)"


def thd_pyodbc() -> Any:
    """The module, imported when it is first needed. Raises Problem that says what to install."""
    try:
        pyodbc: Any = import_module("pyodbc")  # only profiles that need it pay for it
    except ImportError as error:
        missing = "libodbc" in str(error)
        raise Problem(
            "target_unreachable",
            f"ODBC can't be used: {error}",
            hint=_LIBRARY if missing else "pip install pyodbc, Debian: python3-pyodbc",
        ) from None
    # The agent has a pool of its own, which knows when a connection is clean.
    pyodbc.pooling = False
    return pyodbc


def value_of(keys: Mapping[str, str], *names: str) -> str | None:
    """The value of the first of these keys that is there; keys have no case."""
    lower = {name.lower(): value for name, value in keys.items()}
    return next((lower[name.lower()] for name in names if lower.get(name.lower())), None)


Braces = Literal["doubled", "plain", "none"]
"""How a driver reads ``{value}``: with its own ``}`` doubled, as it stands, or not at all."""


def connection_string(keys: Mapping[str, str], braces: Braces = "doubled") -> str:
    """The keys as a connection string that means just them, whatever the values hold.

    Raises Problem for a value that the driver can't be given without meaning something else.
    """
    # FreeTDS takes the last brace for a part of the value when no semicolon follows it.
    return "".join(f"{_key(name)}={_value(name, value, braces)};" for name, value in keys.items())


def _key(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Problem(
            "target_unreachable",
            f"{name[:100]!r} is no key of a connection string",
            hint="check the profile's keys for the ODBC driver",
        )
    return name


def _value(name: str, value: str, braces: Braces) -> str:
    is_driver = name.lower() == "driver"
    strange = _NEEDS_BRACES.search(value) or (braces == "doubled" and not _PLAIN.fullmatch(value))
    needed = bool(is_driver or strange)
    if braces == "none" and not is_driver:
        needed = False
    possible = {"doubled": True, "plain": not (needed and "}" in value)}.get(
        braces, is_driver or not re.search("[;{}]", value)
    )
    if "\0" in value or not possible:
        raise Problem(
            "target_unreachable",
            f"the value of {name} holds a character that the ODBC driver can't be given",
            hint="this driver's values hold no NUL, and no } together with ; or a {",
        )
    if needed:
        return "{" + value.replace("}", "}}") + "}"
    return value


@frozen
class Source:
    """What a profile's keys name.

    :ivar name: the driver's name or library, or what is known of a data source's.
    """

    keys: Mapping[str, str]
    name: str

    @classmethod
    def of(cls, keys: Mapping[str, str]) -> Source:
        """Keys with a driver of this name; nothing is looked up."""
        return cls(keys, (value_of(keys, "Driver") or "").strip("{}"))


def thd_source(keys: Mapping[str, str]) -> Source:
    """The driver that the keys name. Raises Problem when it isn't installed."""
    pyodbc = thd_pyodbc()
    driver = value_of(keys, "Driver")
    if driver is None:
        dsn = value_of(keys, "DSN")
        sources = {name.lower(): each for name, each in pyodbc.dataSources().items()}
        if dsn is not None and dsn.lower() not in sources:
            known = ", ".join(sorted(sources)) or "none at all"
            raise Problem(
                "target_not_found",
                f"there is no ODBC data source {dsn!r}",
                hint=f"odbc.ini of the agent's machine and user names {known}",
            )
        return Source(keys, sources.get((dsn or "").lower(), ""))
    name = driver[1:-1] if driver.startswith("{") and driver.endswith("}") else driver
    if Path(name).is_absolute():
        if not Path(name).exists():
            raise _missing(name, pyodbc.drivers())
        return Source(keys, name)
    installed = {each.lower(): each for each in pyodbc.drivers()}
    if name.lower() not in installed:
        raise _missing(name, pyodbc.drivers())
    exact = {key: value for key, value in keys.items() if key.lower() != "driver"}
    return Source({"Driver": installed[name.lower()], **exact}, installed[name.lower()])


def _missing(name: str, installed: list[str]) -> Problem:
    package = next((hint for pattern, hint in _PACKAGES if re.search(pattern, name.lower())), None)
    there = (
        f"installed are {', '.join(installed)}" if installed else "no driver is installed at all"
    )
    return Problem(
        "target_unreachable",
        f"the ODBC driver {name!r} is not installed on the agent's machine",
        hint=f"{there}; {package}" if package else there,
    )
