"""Where the agent's log goes and what of it: one observer made from the ``logging`` section."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO, cast

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

from .config.options import LoggingOptions

_LONGEST: Final = 16 * 1024
_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), 127)} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}
_OWN: Final = frozenset({"time", "level", "logger", "message", "traceback"})


class LogFileError(Exception):
    """The log file can't be written; the message says why."""


def observer_for(options: LoggingOptions, stream: TextIO | None = None) -> ILogObserver:
    """The observer that the section describes. Raises LogFileError.

    :param stream: where lines go unless the section has a ``path``; standard error by default.
    """
    path = options.path
    write = _to_stream(stream or sys.stderr) if path is None else _to_file(path, options)
    line = json_line if options.format == "json" else text_line
    predicate = LogLevelFilterPredicate(LogLevel.lookupByName(options.level))
    for logger, level in options.loggers.items():
        predicate.setLogLevelForNamespace(logger, LogLevel.lookupByName(level))
    return FilteringLogObserver(_LineObserver(line, write), [predicate])


@implementer(ILogObserver)
class _LineObserver:
    def __init__(self, line: Callable[[LogEvent], str], write: Callable[[str], None]) -> None:
        self._line = line
        self._write = write

    def __call__(self, event: LogEvent) -> None:
        self._write(self._line(event))


def text_line(event: LogEvent) -> str:
    """``TIME LEVEL LOGGER: message``, one line whatever the message holds; tracebacks below it."""
    head = (
        f"{_time(event)} {_level(event):<8} {event.get('log_namespace', '-')}: {_message(event)}\n"
    )
    traceback = _traceback(event)
    return head + "".join(f"    {line}\n" for line in traceback.splitlines())


def json_line(event: LogEvent) -> str:
    """One JSON object a line: ``time, level, logger, message`` and the event's plain fields."""
    content: dict[str, object] = {
        "time": _time(event),
        "level": _level(event),
        "logger": event.get("log_namespace", "-"),
        "message": _message(event),
    }
    for name, value in event.items():
        if name.startswith("log_") or name in _OWN:
            continue
        if isinstance(value, (str, int, float, bool)) or value is None:
            content[name] = value
    if traceback := _traceback(event):
        content["traceback"] = traceback
    return msgspec.json.encode(content).decode() + "\n"


def _time(event: LogEvent) -> str:
    seconds = cast("float", event.get("log_time", 0.0))
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    return "info" if level is None else str(level.name)


def _message(event: LogEvent) -> str:
    """The message without control characters, so that no peer can write a line of its own."""
    text = formatEvent(event) or "(no message)"
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}… ({len(text)} characters)"
    return text.translate(_CONTROLS)


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    if not isinstance(failure, Failure):
        return ""
    return failure.getTraceback(elideFrameworkCode=True)[-_LONGEST:]


def _to_stream(stream: TextIO) -> Callable[[str], None]:
    def write(line: str) -> None:
        stream.write(line)
        stream.flush()

    return write


def _to_file(path: Path, options: LoggingOptions) -> Callable[[str], None]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = LogFile(
            path.name,
            str(path.parent),
            rotateLength=options.max_size,
            maxRotatedFiles=options.keep,
            defaultMode=0o600,
        )
    except OSError as error:
        raise LogFileError(
            f"the log file {path} can't be written: {error.strerror} (logging.path in config.yml)"
        ) from error

    def write(line: str) -> None:
        file.write(line)
        file.flush()

    return write
