"""What the profile allows: which entries, and which attributes of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NoReturn

from attrs import define

from workato_tunnel.problems import Problem

from ...config.distinguishednames import Name
from .filters import Filter
from .settings import LdapPolicy
from .values import refuse, selector, type_of

_NO_ATTRIBUTES: Final = "1.1"
_ALL: Final = "*"


@define
class Guard:
    """Holds calls to the profile's base and policy."""

    profile: str
    base: Name
    policy: LdapPolicy

    def entry(self, text: str, field: str) -> Name:
        """The absolute name of an entry that a caller may name. Raises Problem.

        It is read as an absolute name where it ends with the base, else as relative to that. Either
        way what is sent ends with the config's own text.
        """
        try:
            given = Name.parse(text)
        except ValueError as error:
            raise refuse(str(error), field, "a DN of RFC 4514, as uid=ann,ou=people") from None
        relative = given.below(self.base)
        return self._allowed((given if relative is None else relative).under(self.base))

    def renamed(self, name: Name) -> Name:
        """The absolute name that an entry is to have. Raises Problem if it leads outside."""
        if name.below(self.base) is None:
            self._deny("base", f"{name.text} is outside of {self.base.text}")
        return self._allowed(name)

    def part(self, text: str, field: str) -> Name:
        """A relative distinguished name, of one part."""
        try:
            given = Name.parse(text)
        except ValueError as error:
            raise refuse(str(error), field, "an RDN of RFC 4514, as uid=ann") from None
        if len(given.parts) != 1:
            raise refuse("expected one part, as uid=ann", field)
        return given

    def selection(self, wanted: list[str] | None) -> tuple[str, ...]:
        """The attributes that are asked of the directory."""
        readable = self.policy.readable
        names = [selector(name, f"attributes[{index}]") for index, name in enumerate(wanted or ())]
        if wanted is not None and not names:
            return (_NO_ATTRIBUTES,)
        if readable is None:
            return tuple(names)
        if not names or _ALL in names:
            return tuple(sorted(readable))
        self._all_readable([type_of(name) for name in names if name != _NO_ATTRIBUTES])
        return tuple(names)

    def shows(self, attribute: str) -> bool:
        """Whether a caller may see it: directories add subtypes of what was asked for."""
        readable = self.policy.readable
        return readable is None or type_of(attribute) in readable

    def compares(self, attribute: str) -> None:
        """Raises Problem if an attribute may not be compared."""
        self._all_readable([type_of(attribute)])

    def asks(self, question: Filter) -> None:
        """Raises Problem if a filter would tell of what may not be read."""
        if self.policy.readable is None:
            return
        if None in question.types:
            self._deny("read_attributes", "a matching rule without attribute, or with :dn, is open")
        self._all_readable(name for name in question.types if name and name != "objectclass")

    def writes(self, attributes: Iterable[str]) -> None:
        """Raises Problem if one of them may not be given a value."""
        writable = self.policy.writable
        for name in map(type_of, attributes):
            if writable is not None and name not in writable:
                allowed = ", ".join(sorted(writable))
                self._deny("write_attributes", f"it allows {allowed}, not {name}")

    def _all_readable(self, names: Iterable[str]) -> None:
        readable = self.policy.readable
        for name in names:
            if readable is not None and name not in readable:
                allowed = ", ".join(sorted(readable))
                self._deny("read_attributes", f"it allows {allowed}, not {name}")

    def _allowed(self, name: Name) -> Name:
        bases = self.policy.bases
        if bases is None:
            return name
        for base in bases:
            relative = name.below(base)
            if relative is not None:
                return relative.under(base)
        allowed = "; ".join(base.text for base in bases)
        reason = f"it allows {allowed} and what is below, not {name.text or 'the root'}"
        return self._deny("bases", reason)

    def _deny(self, rule: str, reason: str) -> NoReturn:
        raise Problem(
            "policy_denied",
            f"the rule '{rule}' of profile ldap/{self.profile} refuses this call: {reason}",
            hint=f"the customer sets it in the agent's config.yml, ldap.{self.profile}"
            + ("" if rule == "base" else ".policy"),
            extra={"rule": rule},
        )
