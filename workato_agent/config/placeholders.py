"""Placeholders in the commands of scripts: Mustache variables, and nothing else of Mustache.

``{{name}}``, ``{{{name}}}`` and ``{{&name}}`` mean the same: nothing is escaped for HTML here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

PLACEHOLDER: Final = re.compile(r"\{\{\{\s*([^{}]*?)\s*\}\}\}|\{\{\s*&?\s*([^{}]*?)\s*\}\}")
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def placeholders(template: str) -> Iterator[str]:
    """The names in a template. Raises ValueError for what is not a plain variable."""
    rest = PLACEHOLDER.sub("", template)
    if "{{" in rest or "}}" in rest:
        raise ValueError("a placeholder is not closed, or not opened")
    for match in PLACEHOLDER.finditer(template):
        name = match[1] if match[1] is not None else match[2]
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"'{{{{{name}}}}}' is no variable; sections and partials are not served, "
                "use an element with 'value' and 'if'"
            )
        yield name
