"""YAML with the line of every value, so that a config error can point at its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import yaml
from attrs import frozen

Path = tuple[str | int, ...]
MAX_BYTES: Final = 1 << 20
_MAX_DEPTH: Final = 32
_MAX_VALUES: Final = 50_000
_UNCONSTRUCTIBLE: Final = (
    yaml.YAMLError,
    ValueError,
    LookupError,
    TypeError,
    OverflowError,
    AttributeError,
)
"""What PyYAML raises for an explicit tag whose text does not fit it, as ``!!int ''``."""


class YamlError(Exception):
    """The text is no YAML document that we accept. ``line`` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@frozen
class Document:
    """A parsed document: plain values, and the line on which the value of each path begins."""

    content: object
    lines: dict[Path, int]

    def line_of(self, path: Path) -> int:
        """The line of a path, or of the nearest part above it that is there."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def parse(text: str) -> Document:
    """Read one document. Raises YamlError for bad syntax, a key given twice, deep nesting."""
    if len(text) > MAX_BYTES:
        raise YamlError(f"is longer than {MAX_BYTES} bytes", 1)
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(f"holds the character #x{error.character:04x}", line) from error
    try:
        node = loader.get_single_node()
        if node is None:
            return Document({}, {})
        lines: dict[Path, int] = {}
        for path, line in _walk(node, (), 0):
            lines[path] = line
            if len(lines) > _MAX_VALUES:
                raise YamlError("holds too many values", line)
        content = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise YamlError(str(error.problem or error.context), line) from error
    except RecursionError as error:
        raise YamlError("is nested too deeply", 1) from error
    except _UNCONSTRUCTIBLE as error:
        raise YamlError(f"holds a value that can't be read: {error}".splitlines()[0], 1) from error
    finally:
        loader.dispose()
    return Document(content, lines)


def _walk(node: yaml.Node, path: Path, depth: int) -> Iterator[tuple[Path, int]]:
    line = node.start_mark.line + 1
    if depth > _MAX_DEPTH:
        raise YamlError("is nested too deeply", line)
    yield path, line
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                raise YamlError(f"the key {name!r} is given twice", key.start_mark.line + 1)
            seen.add(name)
            yield from _walk(value, (*path, name), depth + 1)
            yield (*path, name), key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*path, index), depth + 1)
