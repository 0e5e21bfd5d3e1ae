"""YAML to plain values that keep their lines.

Scalars stay the text that was written (null alone becomes None): what a value is meant to be, the
schema knows, so that ``password: 012345`` is no octal number and ``user: no`` no boolean. Anchors,
aliases and merge keys work; their expansion is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, cast

import yaml
from attrs import Factory, define, frozen

from .errors import ConfigProblem, Location, dotted

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 32
MAX_VALUES: Final = 100_000
"""Values after aliases are expanded."""

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_QUOTE: Final = "put quotes round a value that begins with one of * & ! % @ ` or holds ': ' or ' #'"
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@define
class _Scalar:
    text: str
    line: int
    plain: bool


@define
class _Sequence:
    line: int
    items: list[_Node] = Factory(list)


@define
class _Mapping:
    line: int
    pairs: list[tuple[_Node, _Node]] = Factory(list)


_Node = _Scalar | _Sequence | _Mapping


@frozen
class Tree:
    """A parsed file: ``value`` of dict, list, str and None, and the line of each location."""

    value: object
    lines: dict[Location, int]
    problems: tuple[ConfigProblem, ...]

    def line(self, location: Location) -> int | None:
        """The line of a location, or of the nearest thing round it that stands in the file."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location)


class _Unreadable(Exception):
    """The text can't be read any further."""

    def __init__(self, message: str, line: int, hint: str | None = None, path: str = "") -> None:
        super().__init__(message)
        self.problem = ConfigProblem(path, message, line, hint)


def read_tree(text: str) -> Tree:
    """Parse a document. Never raises for what the text holds: faults are in ``problems``.

    Messages never quote a line of the file, which may hold a secret.
    """
    try:
        root = _compose(text)
        expansion = _Expansion()
        value = expansion.value(root, ()) if root is not None else None
    except _Unreadable as error:
        return Tree(None, {}, (error.problem,))
    return Tree(value, expansion.lines, tuple(expansion.problems))


def _events(text: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        problem = error.problem or "syntax error"
        raise _Unreadable(f"not valid YAML: {problem}", line, _QUOTE) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _Unreadable(f"not valid YAML: {error.reason}", line) from None


def _compose(text: str) -> _Node | None:  # noqa: C901 (one branch for each kind of event)
    """The document's nodes, without recursion, so that hostile nesting ends in an error."""
    root: _Node | None = None
    anchors: dict[str, _Node] = {}
    open_nodes: list[_Sequence | _Mapping] = []
    keys: list[_Node | None] = []
    documents = 0
    for event in _events(text):
        mark = event.start_mark
        line = mark.line + 1 if mark is not None else 1
        node: _Node
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _Unreadable("a second YAML document begins here; one is expected", line)
            continue
        if isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            open_nodes.pop()
            keys.pop()
            continue
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise _Unreadable("an alias (*) that no anchor (&) defines", line, _QUOTE)
            node = anchors[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            node = _Scalar(event.value, line, event.style in (None, ""))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = _Sequence(line)
        elif isinstance(event, yaml.MappingStartEvent):
            node = _Mapping(line)
        else:
            continue
        if not isinstance(event, yaml.AliasEvent):
            if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
                raise _Unreadable("YAML tags (!) have no meaning here", line, _QUOTE)
            if event.anchor is not None:
                anchors[event.anchor] = node
        if not open_nodes:
            root = node
        elif isinstance(parent := open_nodes[-1], _Sequence):
            parent.items.append(node)
        elif (key := keys[-1]) is None:
            keys[-1] = node
        else:
            parent.pairs.append((key, node))
            keys[-1] = None
        if isinstance(event, yaml.CollectionStartEvent):
            if len(open_nodes) >= MAX_DEPTH:
                raise _Unreadable(f"nested more than {MAX_DEPTH} levels deep", line)
            open_nodes.append(cast("_Sequence | _Mapping", node))
            keys.append(None)
    return root


@define
class _Expansion:
    """Nodes to values: aliases and merge keys expanded, duplicates reported."""

    lines: dict[Location, int] = Factory(dict)
    problems: list[ConfigProblem] = Factory(list)
    count: int = 0

    def value(self, node: _Node, at: Location) -> object:
        self.count += 1
        if self.count > MAX_VALUES or len(at) > MAX_DEPTH:
            raise _Unreadable(
                f"aliases expand to more than {MAX_VALUES} values or {MAX_DEPTH} levels", node.line
            )
        self.lines.setdefault(at, node.line)
        if isinstance(node, _Scalar):
            return None if node.plain and node.text in _NULLS else node.text
        if isinstance(node, _Sequence):
            return [self.value(item, (*at, index)) for index, item in enumerate(node.items)]
        return self._mapping(node, at)

    def _mapping(self, node: _Mapping, at: Location) -> dict[str, object]:
        values: dict[str, object] = {}
        merged: list[_Node] = []
        for key, item in node.pairs:
            if not isinstance(key, _Scalar) or not key.text:
                message = "expected a name as the key"
                self.problems.append(ConfigProblem(dotted(at), message, key.line))
            elif key.plain and key.text == "<<":
                merged.append(item)
            elif key.text in values:
                first = self.lines[(*at, key.text)]
                message = f"given twice, first on line {first}"
                self.problems.append(ConfigProblem(dotted((*at, key.text)), message, key.line))
            else:
                self.lines[(*at, key.text)] = key.line
                values[key.text] = self.value(item, (*at, key.text))
        for item in merged:
            self._merge(item, at, values, depth=0)
        return values

    def _merge(self, node: _Node, at: Location, values: dict[str, object], depth: int) -> None:
        """What ``<<`` brings in; keys that are there already win."""
        if depth > MAX_DEPTH:
            raise _Unreadable("a merge (<<) of itself", node.line)
        if isinstance(node, _Sequence):
            for item in node.items:
                self._merge(item, at, values, depth + 1)
            return
        if not isinstance(node, _Mapping):
            message = "a merge (<<) takes a mapping or a list of mappings"
            self.problems.append(ConfigProblem(dotted(at), message, node.line))
            return
        nested: list[_Node] = []
        for key, item in node.pairs:
            self.count += 1
            if isinstance(key, _Scalar) and key.plain and key.text == "<<":
                nested.append(item)
            elif isinstance(key, _Scalar) and key.text not in values:
                self.lines[(*at, key.text)] = key.line
                values[key.text] = self.value(item, (*at, key.text))
        for item in nested:
            self._merge(item, at, values, depth + 1)
