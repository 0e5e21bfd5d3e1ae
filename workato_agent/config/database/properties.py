"""Driver properties: what a profile's further keys and a jdbc: URL's parameters come to.

The documented format hands every key that it doesn't know to a JDBC driver. A native driver has
other settings, so each property that is known is translated, left out because nothing changes
without it, or refused because something would. Of the others, those that are spelt as drivers
spell theirs (``someProperty``, ``some.property``) are left out with a remark, unless their name
speaks of security; the rest are unknown keys like any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Final

from attrs import Factory, define, frozen

from ..profiles import Fault

SENSITIVE: Final = re.compile(r"(?i)passw|pwd|secret|token|passphrase|credential|accesskey|keyid")
"""Names of properties whose values are secret."""
_SECURITY: Final = re.compile(
    r"(?i)ssl|tls|encrypt|crypt|trust|cert|secur|auth|krb|kerberos|gss|sspi|jaas|login"
    r"|readonly|role|permission|wallet|keystore|passw|token|secret"
)
_LIKE_A_DRIVERS: Final = re.compile(r"[A-Za-z][A-Za-z0-9_$.-]*")
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})

Rule = Callable[["Translation", str, str], None]
"""Takes one property, by name and value, into a translation."""


@define
class Translation:
    """The properties of one profile, becoming keys of its model.

    :ivar keys: of the model.
    :ivar flags: values that mean something together only, by folded name.
    :ivar at: where faults are told: the key ``url``, or None for the property's own key.
    """

    keys: dict[str, object] = Factory(dict)
    flags: dict[str, str] = Factory(dict)
    remarks: list[str] = Factory(list)
    faults: list[Fault] = Factory(list)
    at: str | None = None

    def fault(self, name: str, message: str, hint: str | None = None) -> None:
        """Refuse a property."""
        if self.at is None:
            self.faults.append(Fault(name, message, hint))
        else:
            self.faults.append(Fault(self.at, f"the property '{name}': {message}", hint))

    def remark(self, text: str) -> None:
        """Tell the operator, once."""
        if text not in self.remarks:
            self.remarks.append(text)

    def flag(self, name: str) -> bool | None:
        """A flag that is true or false; None where it isn't given."""
        text = self.flags.get(name.lower())
        if text is None:
            return None
        truth = truth_of(text)
        if truth is None:
            self.fault(name, "expected true or false")
        return truth


def _nothing(translation: Translation) -> None:
    """Where no properties have to be seen together."""


@frozen
class Rules:
    """The properties that an adapter knows, by the names that drivers' manuals give them.

    :ivar finish: called when all are in, for those that mean something together only.
    :ivar further: whether unknown ones may be left out.
    """

    known: Mapping[str, Rule] = Factory(dict)
    finish: Callable[[Translation], None] = _nothing
    further: bool = False

    def take(
        self, translation: Translation, pairs: Iterable[tuple[str, object]], own: Collection[str]
    ) -> dict[str, object]:
        """Take properties into a translation.

        :param own: the keys of the adapter's profiles.
        :return: those that are not known at all, for the model to refuse by name.
        """
        folded = {name.lower(): rule for name, rule in self.known.items()}
        unknown: dict[str, object] = {}
        for name, value in pairs:
            rule = folded.get(name.lower())
            if rule is None:
                if not self._further(translation, name, own):
                    unknown[name] = value
            elif isinstance(value, str):
                rule(translation, name, value)
            else:
                translation.fault(name, f"expected text, found {kind_of(value)}")
        return unknown

    def _further(self, translation: Translation, name: str, own: Collection[str]) -> bool:
        """Deal with an unknown property; False where it is not one."""
        if not self.further or not like_a_drivers(name) or near(name, own) is not None:
            return False
        if _SECURITY.search(name):
            hint = "remove it, or reach this database with adapter: jdbc and a driverClass"
            translation.fault(name, "this adapter can't do what this property asks for", hint)
        else:
            translation.remark(f"'{name}' has no meaning to this adapter's driver: it is left out")
        return True


def kind_of(value: object) -> str:
    """What stands in a text's place."""
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list) else "nothing"


def like_a_drivers(name: str) -> bool:
    """Whether a name is spelt as drivers spell their properties, and we never do."""
    return bool(_LIKE_A_DRIVERS.fullmatch(name)) and (name != name.lower() or "." in name)


def near(name: str, own: Collection[str]) -> str | None:
    """The key that a word is a misspelling of, by all appearances."""
    by_folded = {key.lower(): key for key in own}
    close = get_close_matches(name.lower(), by_folded, n=1, cutoff=0.85)
    return by_folded[close[0]] if close else None


def truth_of(text: str) -> bool | None:
    """What a driver takes for true or false; a property without a value is set."""
    word = text.strip().lower()
    if word == "" or word in _TRUE:
        return True
    return False if word in _FALSE else None


# -- rules -------------------------------------------------------------------------------------


def becomes(key: str, convert: Callable[[str], object] = str, expected: str = "text") -> Rule:
    """The property is this key of ours. ``convert`` raises ValueError; None leaves it out."""

    def rule(translation: Translation, name: str, value: str) -> None:
        try:
            converted = convert(value)
        except ValueError:
            translation.fault(name, f"expected {expected}")
        else:
            if converted is not None:
                translation.keys[key] = converted

    return rule


def seconds(key: str) -> Rule:
    """A time in seconds, where 0 and less mean the driver's default."""
    return becomes(key, lambda text: float(text) if float(text) > 0 else None, "a number")


def milliseconds(key: str) -> Rule:
    """A time in milliseconds, likewise."""
    return becomes(key, lambda text: float(text) / 1000 if float(text) > 0 else None, "a number")


def flag(translation: Translation, name: str, value: str) -> None:
    """Kept for :attr:`Rules.finish`."""
    translation.flags[name.lower()] = value


def silent(translation: Translation, name: str, value: str) -> None:
    """What it asks for is so anyway, or concerns the JDBC driver's inner working only."""


def ignored(why: str) -> Rule:
    """Left out, which the operator should know."""

    def rule(translation: Translation, name: str, value: str) -> None:
        translation.remark(f"'{name}' is left out: {why}")

    return rule


def refused(message: str, hint: str) -> Rule:
    """Leaving it out would be wrong or unsafe."""

    def rule(translation: Translation, name: str, value: str) -> None:
        translation.fault(name, message, hint)

    return rule


def only(
    *harmless: str, hint: str, message: str = "this adapter can't do what it asks for"
) -> Rule:
    """These values change nothing, others are refused."""

    def rule(translation: Translation, name: str, value: str) -> None:
        if value.strip().lower() not in harmless:
            translation.fault(name, message, hint)

    return rule


def several(names: str, rule: Rule) -> dict[str, Rule]:
    """One rule for many names, separated by spaces."""
    return dict.fromkeys(names.split(), rule)


READ_ONLY: Final = only(
    "false", "", hint="policy: {read_only: true}", message="a profile is read-only by its policy"
)
KEYSTORE: Final = refused(
    "Java key stores are not read by this adapter",
    "export the certificates to PEM files: sslrootcert, sslcert, sslkey",
)
KERBEROS: Final = refused(
    "this adapter logs in with a user name and password only",
    "reach this database with adapter: odbc, or adapter: jdbc and a driverClass",
)
SOCKET_TIMEOUT: Final = ignored("calls have deadlines of their own, see statement_timeout")
CLASS: Final = refused("a Java class has no meaning to this adapter", "remove it")
