"""Search filters: text of RFC 4515 with parameters, or objects; never text put together.

A parameter stands for a whole value, or for a whole piece of one between asterisks, and is taken as
octets, so nothing in it can be read as a part of the filter. ldaptor's own parser is not used: to
it ``\\c3\\a9`` is two characters and not the two octets that the standard says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import define, field, frozen
from ldaptor.protocols import pureldap

from workato_tunnel.problems import Problem

from .values import attribute, octets, refuse, type_of

MAX_FILTER: Final = 64 * 1024
MAX_DEPTH: Final = 32
MAX_ITEMS: Final = 2000

_ITEM: Final = re.compile(
    r"(?P<attribute>(?:[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+)(?:;[A-Za-z0-9-]+)*)?"
    r"(?P<dn>:[dD][nN])?(?::(?P<rule>[A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+))?"
    r"(?P<operator>:=|~=|>=|<=|=)"
)
_VALUE: Final = re.compile(r"(?:[^\\()\0]|\\[0-9A-Fa-f]{2})*")
_ESCAPE: Final = re.compile(rb"\\([0-9A-Fa-f]{2})")
_PARAMETER: Final = re.compile(r":([A-Za-z_][A-Za-z0-9_]*)")
_COMPARING: Final = {
    "=": pureldap.LDAPFilter_equalityMatch,
    "~=": pureldap.LDAPFilter_approxMatch,
    ">=": pureldap.LDAPFilter_greaterOrEqual,
    "<=": pureldap.LDAPFilter_lessOrEqual,
}
_BY_NAME: Final = {"equals": "=", "approximately": "~=", "at_least": ">=", "at_most": "<="}
_PIECES: Final = ("starts_with", "contains", "ends_with")


@frozen
class Filter:
    """A filter, ready to be sent.

    :ivar node: ldaptor's object.
    :ivar types: the attribute types that it asks about, in lower case. None among them: it asks
        about attributes that it does not name.
    """

    node: Any
    types: frozenset[str | None]


def filter_of(source: str | Mapping[str, object], params: Mapping[str, object] | None) -> Filter:
    """The filter of a call. Raises Problem ``bad_request``."""
    building = _Building()
    if isinstance(source, str):
        values = {name: octets(each, f"params.{name}") for name, each in (params or {}).items()}
        return _Text(source, values, building).parsed()
    if params:
        raise refuse("a filter that is an object has its values in it", "params")
    node = _object(source, "filter", building, 1)
    return Filter(node, frozenset(building.types))


@define
class _Building:
    """Counts, and gathers what the filter asks about."""

    types: set[str | None] = field(factory=set)
    items: int = 0

    def count(self, depth: int) -> None:
        self.items += 1
        if depth > MAX_DEPTH or self.items > MAX_ITEMS:
            raise refuse(f"more than {MAX_DEPTH} levels or {MAX_ITEMS} conditions", "filter")

    def comparison(self, name: str, operator: str, value: bytes) -> Any:
        self.types.add(type_of(name))
        return _COMPARING[operator](
            attributeDesc=pureldap.LDAPAttributeDescription(name),
            assertionValue=pureldap.LDAPAssertionValue(value),
        )

    def present(self, name: str) -> Any:
        self.types.add(type_of(name))
        return pureldap.LDAPFilter_present(name)

    def substrings(self, name: str, first: bytes, middle: list[bytes], last: bytes) -> Any:
        self.types.add(type_of(name))
        pieces = [pureldap.LDAPFilter_substrings_any(each) for each in middle]
        if first:
            pieces.insert(0, pureldap.LDAPFilter_substrings_initial(first))
        if last:
            pieces.append(pureldap.LDAPFilter_substrings_final(last))
        return pureldap.LDAPFilter_substrings(type=name, substrings=pieces)

    def extensible(self, name: str | None, rule: str | None, value: bytes, *, dn: bool) -> Any:
        self.types.add(None if name is None or dn else type_of(name))
        return pureldap.LDAPFilter_extensibleMatch(
            matchingRule=rule, type=name, matchValue=value, dnAttributes=dn or None
        )


@define
class _Text:
    """Reads a filter's text."""

    text: str
    params: Mapping[str, bytes]
    building: _Building
    position: int = 0
    used: set[str] = field(factory=set)

    def parsed(self) -> Filter:
        if len(self.text) > MAX_FILTER:
            raise refuse(f"longer than {MAX_FILTER} characters", "filter")
        node = self.node(1)
        if self.position != len(self.text):
            raise self.fault("something follows the filter")
        if unused := self.params.keys() - self.used:
            raise refuse("the filter has no such parameter", f"params.{min(unused)}")
        return Filter(node, frozenset(self.building.types))

    def node(self, depth: int) -> Any:
        self.building.count(depth)
        self.spaces()
        self.expect("(")
        sign = self.text[self.position : self.position + 1]
        if sign in ("&", "|"):
            self.position += 1
            self.spaces()
            nodes = []
            while self.text.startswith("(", self.position):
                nodes.append(self.node(depth + 1))
            kind = pureldap.LDAPFilter_and if sign == "&" else pureldap.LDAPFilter_or
            node = kind(nodes)
        elif sign == "!":
            self.position += 1
            node = pureldap.LDAPFilter_not(self.node(depth + 1))
        else:
            node = self.item()
        self.expect(")")
        self.spaces()
        return node

    def item(self) -> Any:
        match = _ITEM.match(self.text, self.position)
        if match is None:
            raise self.fault("expected ATTRIBUTE=VALUE")
        name, operator = match["attribute"], match["operator"]
        extensible = operator == ":="
        if (name is None and not (extensible and match["rule"])) or (
            not extensible and (match["dn"] or match["rule"])
        ):
            raise self.fault("expected ATTRIBUTE=VALUE or ATTRIBUTE:RULE:=VALUE")
        self.position = match.end()
        value_end = self.value_end()
        pieces = self.text[self.position : value_end].split("*")
        if extensible:
            value = self.single(pieces)
            dn = match["dn"] is not None
            node = self.building.extensible(name, match["rule"], value, dn=dn)
        elif operator != "=" or len(pieces) == 1:
            node = self.building.comparison(name, operator, self.single(pieces))
        elif pieces == ["", ""]:
            node = self.building.present(name)
        else:
            first, *middle, last = (self.octets(each, piece=True) for each in pieces)
            if not all(middle):
                raise self.fault("there is nothing between two asterisks")
            node = self.building.substrings(name, first, middle, last)
        self.position = value_end
        return node

    def value_end(self) -> int:
        found = _VALUE.match(self.text, self.position)
        return self.position if found is None else found.end()

    def single(self, pieces: list[str]) -> bytes:
        if len(pieces) > 1:
            raise self.fault(r"an asterisk has no meaning here: write \2a")
        return self.octets(pieces[0])

    def octets(self, raw: str, *, piece: bool = False) -> bytes:
        """What a piece of text, or the parameter that it is, stands for."""
        if raw.startswith(":"):
            match = _PARAMETER.fullmatch(raw)
            if match is None:
                raise self.fault(
                    r"a parameter is the whole value, or all between asterisks; write \3a for a"
                    " colon that begins a value"
                )
            name = match[1]
            if name not in self.params:
                raise refuse("the filter needs it", f"params.{name}", "give it a value in params")
            self.used.add(name)
            value = self.params[name]
            if piece and not value:
                # Without its piece the filter would find more than it says.
                raise refuse("empty, as a piece of a value", f"params.{name}")
            return value
        try:
            return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), raw.encode())
        except UnicodeEncodeError:
            raise self.fault("half of a surrogate pair") from None

    def spaces(self) -> None:
        while self.text[self.position : self.position + 1].isspace():
            self.position += 1

    def expect(self, character: str) -> None:
        if not self.text.startswith(character, self.position):
            raise self.fault(f"expected '{character}'")
        self.position += 1

    def fault(self, what: str) -> Problem:
        return refuse(
            f"{what}, at character {self.position + 1}",
            "filter",
            r"text of RFC 4515, as (&(objectClass=person)(uid=:uid)); ( ) * \ in a value are"
            r" written \28 \29 \2a \5c",
        )


# -- filters that are objects --------------------------------------------------------------------

_Kind = Callable[[Mapping[str, object], str, _Building], Any]


def _object(source: object, where: str, building: _Building, depth: int) -> Any:
    building.count(depth)
    if not isinstance(source, Mapping):
        raise refuse("expected an object", where)
    keys = source.keys()
    for key, kind in (("and", pureldap.LDAPFilter_and), ("or", pureldap.LDAPFilter_or)):
        if keys == {key}:
            several = source[key]
            if not isinstance(several, list):
                raise refuse("expected a list of filters", f"{where}.{key}")
            return kind(
                [
                    _object(each, f"{where}.{key}[{index}]", building, depth + 1)
                    for index, each in enumerate(several)
                ]
            )
    if keys == {"not"}:
        return pureldap.LDAPFilter_not(_object(source["not"], f"{where}.not", building, depth + 1))
    return _condition(source, where, building)


def _condition(source: Mapping[str, object], where: str, building: _Building) -> Any:
    keys = source.keys() - {"attribute"}
    if "rule" in keys:
        return _rule(source, where, building)
    name = _name(source, where)
    if keys == {"present"}:
        if source["present"] is not True:
            raise refuse('expected true; the contrary is {"not": …}', f"{where}.present")
        return building.present(name)
    if keys and keys <= set(_PIECES):
        pieces = {key: octets(source[key], f"{where}.{key}") for key in keys}
        for key, piece in pieces.items():
            if not piece:
                raise refuse("is empty", f"{where}.{key}")
        middle = [pieces["contains"]] if "contains" in pieces else []
        return building.substrings(
            name, pieces.get("starts_with", b""), middle, pieces.get("ends_with", b"")
        )
    if len(keys) == 1 and (operator := _BY_NAME.get(key := min(keys))):
        return building.comparison(name, operator, octets(source[key], f"{where}.{key}"))
    raise refuse(
        "no filter has these members",
        where,
        f"and, or, not; or attribute with one of present, {', '.join(_BY_NAME)}, or with some of "
        f"{', '.join(_PIECES)}; or rule, value, attribute, dn",
    )


def _rule(source: Mapping[str, object], where: str, building: _Building) -> Any:
    if not {"rule", "value"} <= source.keys() <= {"rule", "value", "attribute", "dn"}:
        raise refuse("expected rule and value, and attribute and dn if need be", where)
    name = _name(source, where) if "attribute" in source else None
    rule, dn = source["rule"], source.get("dn", False)
    if not isinstance(rule, str) or ";" in rule:
        raise refuse("expected the name or OID of a matching rule", f"{where}.rule")
    if not isinstance(dn, bool):
        raise refuse("expected true or false", f"{where}.dn")
    value = octets(source["value"], f"{where}.value")
    return building.extensible(name, attribute(rule, f"{where}.rule"), value, dn=dn)


def _name(source: Mapping[str, object], where: str) -> str:
    name = source.get("attribute")
    if not isinstance(name, str):
        raise refuse("expected the name or OID of an attribute", f"{where}.attribute")
    return attribute(name, f"{where}.attribute")
