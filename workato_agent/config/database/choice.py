"""From a profile's keys to its adapter's model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import AliasChoices
from pydantic_core import PydanticCustomError

from ..errors import suggestion
from ..fields import refuse
from ..profiles import Fault, ProfileConfig, Variant
from . import urls
from .base import DatabaseProfile
from .jdbc import JdbcProfile
from .mysql import MysqlProfile
from .odbc import PASSWORD_KEYS, USER_KEYS, OdbcProfile
from .oracle import OracleProfile
from .postgresql import PostgresqlProfile, RedshiftProfile
from .properties import Translation, kind_of, near
from .sqlite import SqliteProfile
from .sqlserver import SqlserverProfile

ADAPTERS: Final[Mapping[str, type[DatabaseProfile]]] = {
    "postgresql": PostgresqlProfile,
    "redshift": RedshiftProfile,
    "mysql": MysqlProfile,
    "sqlserver": SqlserverProfile,
    "oracle": OracleProfile,
    "sqlite": SqliteProfile,
    "odbc": OdbcProfile,
    "jdbc": JdbcProfile,
}
_OTHER_NAMES: Final = {
    other: name for name, model in ADAPTERS.items() for other in model.other_names
}
_WITH_PROPERTIES: Final = ("odbc", "jdbc")
"""Adapters whose driver takes every further key."""


class AnyDatabase(DatabaseProfile):
    """A profile of the ``database`` section before its adapter is known."""

    @classmethod
    def variant(cls, data: dict[str, object]) -> Variant:
        """The adapter's model; a jdbc: URL and driver properties become the model's keys."""
        try:
            adapter = _adapter(data)
            if adapter in _WITH_PROPERTIES:
                return _with_properties(adapter, data)
            return _native(adapter, data)
        except PydanticCustomError as error:
            context = error.context or {}
            fault = Fault(str(context.get("at") or ""), error.message(), context.get("hint"))
            return Variant(None, data, (fault,))

    @classmethod
    def variants(cls) -> tuple[type[ProfileConfig], ...]:
        """One model for each adapter."""
        return tuple(ADAPTERS.values())


def _adapter(data: Mapping[str, object]) -> str:
    """Which adapter serves a profile. Raises what ``refuse`` does."""
    stated, url = data.get("adapter"), data.get("url")
    name = stated.strip().lower() if isinstance(stated, str) else ""
    name = _OTHER_NAMES.get(name, name)
    if stated is None:
        if url is None:
            refuse("missing: expected an adapter or a jdbc: url", _known(), at="adapter")
        return urls.ADAPTERS.get(urls.driver_of(url), "jdbc")
    if name not in ADAPTERS:
        hint = suggestion(name, ADAPTERS) or _known()
        refuse(f"expected one of {', '.join(ADAPTERS)}", hint, at="adapter")
    if name == "jdbc" and url is not None and data.get("driverClass") is None:
        # Without a class only the native adapters know what to do with it.
        return urls.ADAPTERS.get(urls.driver_of(url), "jdbc")
    return name


def _known() -> str:
    return f"adapters: {', '.join(ADAPTERS)}"


def _names(model: type[DatabaseProfile]) -> set[str]:
    """The keys of a model as the file has them."""
    names: set[str] = set()
    for name, info in model.model_fields.items():
        if isinstance(choices := info.validation_alias, AliasChoices):
            names.update(choice for choice in choices.choices if isinstance(choice, str))
        else:
            names.add(info.alias or name)
    return names


def _native(adapter: str, data: dict[str, object]) -> Variant:
    model = ADAPTERS[adapter]
    names = _names(model)
    own = {key: value for key, value in data.items() if key in names}
    further = {key: value for key, value in data.items() if key not in names}
    translation = Translation()
    if "user" in own and "username" in own:
        translation.fault("user", "given as username as well", "keep one of the two")
        del own["user"]
    url = further.pop("url", None)
    if further.pop("driverClass", None) is not None:
        translation.remark(f"driverClass has no meaning to adapter {adapter}: it is left out")
    if url is not None:
        _take_url(adapter, url, translation, own)
    unknown = model.rules.take(translation, further.items(), names)
    model.rules.finish(translation)
    _own_words_win(model, own, translation)
    passed_on, stated = translation.keys.get("properties"), own.get("properties")
    if isinstance(passed_on, dict) and isinstance(stated, dict):
        own["properties"] = {**passed_on, **stated}
    return Variant(
        model,
        {**translation.keys, **own, **unknown, "adapter": adapter},
        tuple(translation.faults),
        tuple(translation.remarks),
    )


def _own_words_win(
    model: type[DatabaseProfile], own: Mapping[str, object], translation: Translation
) -> None:
    """A key of the profile, whichever of its names it has, wins over a property."""
    for info in model.model_fields.values():
        if isinstance(choices := info.validation_alias, AliasChoices):
            names = [choice for choice in choices.choices if isinstance(choice, str)]
            if any(name in own for name in names):
                for name in names:
                    translation.keys.pop(name, None)


def _take_url(
    adapter: str, url: object, translation: Translation, own: Mapping[str, object]
) -> None:
    """What a URL says, into the translation; the profile's own login wins over the URL's."""
    driver = urls.driver_of(url)
    serves = urls.ADAPTERS.get(driver) == adapter or (adapter, driver) == ("redshift", "postgresql")
    if not serves or not isinstance(url, str):
        hint = f"for example {urls.EXAMPLES[adapter]}"
        refuse(f"the URL is not of adapter {adapter}", hint, at="url")
    parts = urls.parts_of(url)
    model = ADAPTERS[adapter]
    translation.at = "url"
    translation.keys.update(parts.keys)
    sure = parts.properties[: parts.sure()]
    for name in model.rules.take(translation, sure, _names(model)):
        meant = near(name, model.rules.known)
        hint = f"did you mean '{meant}'?" if meant else "see docs/configuration.md"
        translation.fault(name, "not known", hint)
    known = {name.lower() for name in model.rules.known}
    for pair in parts.properties[len(sure) :]:
        if pair[0].lower() in known:
            model.rules.take(translation, [pair], ())
        else:
            what = "after the password stands what is no known property"
            hint = "give the password by its own key, or encode & ; = in it"
            translation.faults.append(Fault("url", what, hint))
    for key in ("host", "port", "database", "service", "instance", "dsn"):
        if key in own and key in translation.keys:
            translation.faults.append(Fault(key, "given by the url as well", "keep one of the two"))
    translation.at = None


def _with_properties(adapter: str, data: dict[str, object]) -> Variant:
    """Every further key is the driver's own, but for those that are misspelt keys of ours."""
    model = ADAPTERS[adapter]
    names = _names(model)
    own = {key: value for key, value in data.items() if key in names}
    faults: list[Fault] = []
    properties: dict[str, str] = {}
    stated = own.pop("properties", None)
    if stated is not None and not isinstance(stated, dict):
        faults.append(Fault("properties", "expected a mapping of the driver's properties"))
        stated = None
    further = {key: value for key, value in data.items() if key not in names}
    for key, value in {**(stated or {}), **further}.items():
        login = _login_key(key) if adapter == "odbc" else None
        if login is not None and key not in (stated or {}):
            own.setdefault(login, value)
        elif key in further and (meant := near(key, names)) is not None:
            faults.append(Fault(key, "unknown key", f"did you mean '{meant}'?"))
        elif key in further and adapter == "odbc" and key in ("host", "port", "database", "url"):
            hint = "the driver's own words, as Server, Port and Database"
            faults.append(Fault(key, "no key of an ODBC connection string", hint))
        elif isinstance(value, str):
            properties[key] = value
        else:
            faults.append(Fault(key, f"expected text, found {kind_of(value)}"))
    if "user" in own and "username" in own:
        faults.append(Fault("user", "given as username as well", "keep one of the two"))
        del own["user"]
    return Variant(model, {**own, "properties": properties, "adapter": adapter}, tuple(faults))


def _login_key(key: str) -> str | None:
    folded = key.lower()
    if folded in USER_KEYS:
        return "username"
    return "password" if folded in PASSWORD_KEYS else None
