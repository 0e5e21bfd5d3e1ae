"""Where the gateway's log goes and what of it: one observer made from the ``logging`` section."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

import msgspec
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile
from zope.interface import implementer

from .config import Level, Logging

_QUIET: Final[dict[str, Level]] = {"log_legacy": "warn", "autobahn": "error"}
"""Levels unless the config says otherwise: Twisted's old log tells of every port, Autobahn's of
what the tunnel listener logs itself."""
MAX_TEXT: Final = 16 << 10
_NO_CONTROLS: Final = dict.fromkeys((*range(32), 127, 133, 8232, 8233), "�")


def observer_for(section: Logging, stream: TextIO | None = None) -> ILogObserver:
    """Writes what the section's levels let through. Raises OSError for a file that can't be.

    :param stream: where to, unless the section has a ``path``; standard error by default.
    """
    levels = LogLevelFilterPredicate(LogLevel.lookupByName(section.level))
    for namespace, level in (_QUIET | section.levels).items():
        levels.setLogLevelForNamespace(namespace, LogLevel.lookupByName(level))
    line = json_line if section.format == "json" else text_line
    target = _file(section.path, section) if section.path else stream or sys.stderr
    return FilteringLogObserver(_Lines(line, target), [levels])


def _file(path: Path, section: Logging) -> LogFile:
    return LogFile(
        path.name,
        str(path.parent),
        rotateLength=section.max_size,
        maxRotatedFiles=section.keep,
        defaultMode=0o600,
    )


@implementer(ILogObserver)
class _Lines:
    def __init__(self, line: Callable[[LogEvent], str], stream: TextIO | LogFile) -> None:
        self._line = line
        self._stream = stream

    def __call__(self, event: LogEvent) -> None:
        self._stream.write(self._line(event) + "\n")
        self._stream.flush()


def text_line(event: LogEvent) -> str:
    """``TIME LEVEL LOGGER MESSAGE``; a traceback follows on lines of its own, indented."""
    level = event.get("log_level", LogLevel.info).name
    head = f"{_time(event)} {level:<5} {event.get('log_namespace', '-')} {_message(event)}"
    return "\n    ".join([head, *_traceback(event).splitlines()])


def json_line(event: LogEvent) -> str:
    """One object: time, level, logger, message, and those fields of the event that are plain."""
    document: dict[str, object] = {
        "time": _time(event),
        "level": event.get("log_level", LogLevel.info).name,
        "logger": event.get("log_namespace", "-"),
        "message": _message(event),
    }
    for name, value in event.items():
        plain = isinstance(value, str | int | float)
        if plain and not name.startswith("log_") and name not in document:
            document[name] = value
    if traceback := _traceback(event):
        document["traceback"] = traceback
    return msgspec.json.encode(document).decode()


def _time(event: LogEvent) -> str:
    at = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(event: LogEvent) -> str:
    """One line, whatever a peer has put into a field."""
    return formatEvent(event)[:MAX_TEXT].translate(_NO_CONTROLS)


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return failure.getTraceback()[-MAX_TEXT:] if isinstance(failure, Failure) else ""
