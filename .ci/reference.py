"""reference.py [--check]: the pages of docs/ that are made from the code.

Writes docs/errors.md and docs/log-events.md; with --check it only compares, shows the difference
and fails where there is one. `make reference` runs it.
"""

import ast
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from workato_tunnel.problems import PROBLEM_TYPES, TYPE_PREFIX  # noqa: E402

_MADE = "<!-- Made from the code by `make reference`: change it there. -->\n"
_LEVELS = ("debug", "info", "warn", "error", "critical", "failure")
_LOGGERS = ("log", "_log")
_COLUMNS = "| event | level | message | fields | logger |\n|---|---|---|---|---|\n"
_PARTS = (
    ("The agent", ("workato_agent",)),
    ("The gateway", ("workato_gateway",)),
    ("Both, of the tunnel", ("workato_tunnel",)),
)

_REPEAT = {
    "agent_inactive": "yes, after `Retry-After`: nothing was done",
    "overloaded": "yes, after `Retry-After`: nothing was done",
    "tunnel_lost": "look first whether it was done, where the call changes something",
    "deadline_exceeded": "look first whether it was done, where the call changes something",
    "internal_error": "look first whether it was done, where the call changes something",
    "target_unreachable": "a read: yes. Where the call changes something, look first",
}

_ERRORS_HEAD = f"""# Errors

{_MADE}
Every error is a problem document ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)) of the type
`application/problem+json`. Programs go by `code`, which stays the same from release to release;
`detail` is for people, in the target's own words where it has some, and `hint` says what to do.
When each one occurs is told in [http-api.md](http-api.md#errors). The gateway's own HTTP refusals
(405, 408, 414, 417, 431, 501, 505) have the code `bad_request` and their own status.

"""

_EVENTS_HEAD = f"""# Log events

{_MADE}
What agent and gateway write to their logs. With `logging.format: json` a line is an object with
`time`, `level`, `logger`, `message`, the `event` from this list, the fields named here, and
`traceback` where there is one. Names of events and fields stay the same from release to release;
the words of a message may change. Lines without an `event` are of the libraries beneath, and of
no interest unless something is wrong with them.

The level `critical` with a traceback is a bug or a broken machine: worth an alert. `logging.NAME`
in [config.yml](configuration.md) and [gateway.yml](gateway-configuration.md) gives a logger, and
those below it, a level of its own. The gateway's access log, the gateway's audit and the agent's
audit are records of their own, and not part of this.
"""


def errors() -> str:
    """docs/errors.md."""
    text = _ERRORS_HEAD
    text += "| code | status | |\n|---|---|---|\n"
    for each in PROBLEM_TYPES.values():
        text += f"| [`{each.code}`](#{each.code}) | {each.status} | {each.title} |\n"
    for each in PROBLEM_TYPES.values():
        text += f"""
## {each.code}

{each.title}.

| | |
|---|---|
| status | {each.status} |
| type | `{TYPE_PREFIX}{each.code}` |
| what to do | {each.hint[0].upper()}{each.hint[1:]} |
| the same call again | {_REPEAT.get(each.code, "no: the answer would be the same")} |
"""
    return text


class Unnamed(Exception):
    """A log call without a stable name; the message says where."""


def _constant(node: ast.expr | None, where: str, what: str) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise Unnamed(f"{where}: a log call needs {what}, as a constant")


def _entries(path: Path) -> Iterator[tuple[str, str, str, str, tuple[str, ...]]]:
    """Event, level, logger, message and fields of each log call in a module."""
    logger = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value
        name = getattr(owner, "attr", None) or getattr(owner, "id", None)
        if node.func.attr not in _LEVELS or name not in _LOGGERS:
            continue
        where = f"{path.relative_to(ROOT)}:{node.lineno}"
        message = _constant(node.args[0] if node.args else None, where, "a message")
        named = {each.arg: each.value for each in node.keywords if each.arg}
        event = _constant(named.get("event"), where, 'a name, event="what_happened"')
        level = "critical" if node.func.attr == "failure" else node.func.attr
        fields = sorted(named.keys() - {"event", "failure", "level"})
        yield event, level, logger, message, tuple(fields)


def _rows(packages: tuple[str, ...]) -> Iterator[str]:
    merged: dict[tuple[str, str, str], tuple[str, set[str]]] = {}
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            for event, level, logger, message, fields in _entries(path):
                first, known = merged.setdefault((event, level, logger), (message, set()))
                merged[event, level, logger] = (first, known | set(fields))
    for (event, level, logger), (message, fields) in sorted(merged.items()):
        named = ", ".join(f"`{field}`" for field in sorted(fields)) or "-"
        words = message.replace("|", "\\|")
        yield f"| `{event}` | {level} | {words} | {named} | `{logger}` |\n"


def log_events() -> str:
    """docs/log-events.md. Raises Unnamed."""
    text = _EVENTS_HEAD
    for title, packages in _PARTS:
        text += f"\n## {title}\n\n{_COLUMNS}"
        text += "".join(_rows(packages))
    return text


def main(*arguments: str) -> int:
    """Write, or compare; 1 when something is not as it should be."""
    try:
        pages = {"docs/errors.md": errors(), "docs/log-events.md": log_events()}
    except Unnamed as error:
        print(error)
        return 1
    status = 0
    for name, text in pages.items():
        path = ROOT / name
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
            continue
        found = path.read_text(encoding="utf-8") if path.exists() else ""
        if found != text:
            status = 1
            print(f"{name} is not what the code says: run `make reference`")
            changes = difflib.unified_diff(
                found.splitlines(), text.splitlines(), name, "code", lineterm=""
            )
            print("\n".join(changes))
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
