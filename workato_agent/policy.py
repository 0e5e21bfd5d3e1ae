"""What the customer allows, decided before a service is called. Pure.

Here are the rules that hold whatever the service does: operations, time windows, and methods and
paths of http. ``read_only``, ``max_rows``, ``max_bytes`` and ``patterns`` are in the same policy
object, for the service that alone can enforce them.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final, NoReturn
from urllib.parse import unquote_to_bytes

from workato_tunnel.problems import Problem

from .config.policies import HttpPolicy, Policy
from .requests import Request

LONGEST_PATH: Final = 8192
TEST: Final = "test"
"""The profile's own test. It shows no data, so only ``windows`` applies to it."""


def check(policy: Policy, service: str, operation: str, request: Request, now: datetime) -> None:
    """Let a call through or raise Problem ``policy_denied`` with ``rule`` as an extra member.

    :param operation: as the service's ``operation(request)`` names it.
    :param now: the agent's local time.
    """
    if policy.windows is not None and not any(window.contains(now) for window in policy.windows):
        windows = ", ".join(window.text for window in policy.windows)
        _deny("windows", f"it is open {windows} (the agent's local time)", service, request)
    if operation == TEST:
        return
    if policy.operations is not None and operation not in policy.operations:
        allowed = ", ".join(policy.operations)
        _deny("operations", f"it allows {allowed}, not {operation}", service, request)
    if isinstance(policy, HttpPolicy):
        _check_http(policy, service, operation, request)


def _check_http(policy: HttpPolicy, service: str, operation: str, request: Request) -> None:
    # What allows to read does not allow a connection that carries anything both ways.
    method = operation.upper() if operation == "websocket" else request.method
    if policy.methods is not None and method not in policy.methods:
        allowed = ", ".join(sorted(policy.methods))
        _deny("methods", f"it allows {allowed}, not {method}", service, request)
    if policy.paths is not None:
        if len(request.path) > LONGEST_PATH:
            _deny("paths", f"the path is longer than {LONGEST_PATH} bytes", service, request)
        path = plain_path(request.path)
        if path is None:
            reason = "the path can be read in more than one way (dot segments, encoded slashes …)"
            _deny("paths", reason, service, request)
        if not any(pattern.matches(path) for pattern in policy.paths):
            allowed = ", ".join(pattern.text for pattern in policy.paths)
            _deny("paths", f"it allows {allowed}", service, request)


def permits(policy: HttpPolicy, method: str, raw: str) -> bool:
    """Whether http's rules let a request through that no caller has made: a redirect's."""
    operations, methods, paths = policy.operations, policy.methods, policy.paths
    if operations is not None and method.lower() not in operations:
        return False
    if methods is not None and method not in methods:
        return False
    path = plain_path(raw) if len(raw) <= LONGEST_PATH else None
    return paths is None or (path is not None and any(each.matches(path) for each in paths))


def plain_path(raw: str) -> str | None:
    """A raw URL path decoded, with its leading slash; None where two readers may disagree on it.

    ``raw`` is as in a request: ``""`` and ``"/"`` are both the application's root.

    A target may decode twice, take a backslash for a slash or resolve ``..``, ``..;x`` and ``//``
    itself, which would lead it past what was matched.
    """
    if raw == "/":
        return raw
    try:
        path = unquote_to_bytes("/" + raw).decode("utf-8")
    except UnicodeError:
        return None
    if re.search(r"%2f|%5c", raw, re.IGNORECASE) or re.search(r"[\\\x00-\x1f\x7f]|//", path):
        return None
    if re.search(r"%[0-9a-f]{2}", path, re.IGNORECASE):
        return None
    for segment in path.split("/"):
        if segment.partition(";")[0] in (".", ".."):
            return None
    return path


def _deny(rule: str, reason: str, service: str, request: Request) -> NoReturn:
    raise Problem(
        "policy_denied",
        f"the rule '{rule}' of profile {service}/{request.profile} refuses this call: {reason}",
        hint=f"the customer sets it in the agent's config.yml, {service}.{request.profile}.policy",
        extra={"rule": rule},
    )
