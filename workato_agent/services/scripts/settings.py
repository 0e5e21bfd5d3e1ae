"""What a scripts profile is told by the config."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

_SHELL_QUOTES: Final = ("'", '"')
OUTPUT_LIMIT: Final = 50_000
"""Characters of each output that are kept unless the profile says otherwise."""


@frozen
class Quote:
    """How a parameter's value is wrapped: ``end`` and ``escape`` within it are escaped.

    :ivar posix_shell: the text is a POSIX shell's. Plain quotes then mean that the value is one
        word there, whatever is in it: a backslash does nothing between ``'`` and ``$`` a lot
        between ``"``, so the rule alone would let a value out.
    """

    start: str
    end: str
    escape: str = "\\"
    posix_shell: bool = False

    def around(self, value: str) -> str:
        """The value in its quotes."""
        if self.posix_shell and self.start == self.end and self.start in _SHELL_QUOTES:
            return shlex.quote(value)
        if self.escape and self.escape != self.end:
            value = value.replace(self.escape, self.escape * 2)
        return f"{self.start}{value.replace(self.end, self.escape + self.end)}{self.end}"


@frozen
class Parameter:
    """A value that callers give.

    :ivar choices: the values that are allowed; empty for any.
    :ivar pattern: a regular expression that the whole value has to match.
    """

    name: str
    optional: bool = False
    quote: Quote | None = None
    label: str = ""
    control_type: str = "text"
    choices: Sequence[tuple[str, str]] = ()
    pattern: str | None = None


@frozen
class Element:
    """One argument of a command, with placeholders.

    :ivar condition: the parameter without which the argument is left out.
    """

    template: str
    condition: str | None = None


@frozen
class Script:
    """A command that callers may run."""

    name: str
    command: Sequence[Element]
    parameters: Sequence[Parameter] = ()


@frozen
class ScriptsSettings:
    """One profile of the ``command_line_scripts`` section. Times in seconds.

    :ivar concurrency: scripts that run at the same time; others wait their turn.
    :ivar agent: this agent's name, with which the ids of runs begin.
    :ivar user: the user that scripts run as; None for the agent's own.
    """

    scripts: Mapping[str, Script]
    agent: str
    concurrency: int = 10
    timeout: float = 90.0
    output_limit: int = OUTPUT_LIMIT
    folder: Path = Path("/")
    environment: Mapping[str, str] = {}
    user: str | None = None
