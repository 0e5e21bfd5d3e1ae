"""``workato-agent check``: is the config valid, is the way to the gateway open, and does each
profile reach its target?"""

from __future__ import annotations

import argparse
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from attrs import asdict, evolve, frozen
from twisted.internet.defer import Deferred, DeferredSemaphore, TimeoutError, gatherResults  # noqa: A004

from workato_tunnel.problems import Problem
from workato_tunnel.tx.process import become_owner_of

from ..config import AgentConfig, ConfigError, load_config, load_options
from ..config.jsonschema import config_schema
from ..requests import Request, Response
from ..services.base import ProfileService
from ..tunnel.diagnosis import Step, diagnose
from .check_tunnel import TUNNEL, tell_tunnel, tunnel_good
from .commands import Command, add_config, add_json, on_reactor, tell_config_error
from .output import DONE, FAILED, WRONG_USE, painted, say, show, show_json

TIMEOUT: Final = 30.0
AT_ONCE: Final = 8
_LARGEST: Final = 64 * 1024

Services = Mapping[str, Mapping[str, ProfileService]]


@frozen
class Finding:
    """What the test of one profile showed.

    :ivar seconds: how long it took.
    :ivar warnings: what should be known although it went well; they don't change the exit status.
    """

    service: str
    profile: str
    ok: bool
    seconds: float
    target: str | None = None
    code: str | None = None
    detail: str | None = None
    hint: str | None = None
    warnings: tuple[str, ...] = ()


class _NoBody:
    """The body of a request that has none."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration

    async def read(self, limit: int) -> bytes:
        return b""


async def check_profiles(
    services: Services,
    config: AgentConfig,
    wanted: Sequence[tuple[str, str]],
    reactor: Any,
    timeout: float = TIMEOUT,
) -> list[Finding]:
    """Run the own test of each profile, some at a time, as a caller's GET without a path would."""
    turns = DeferredSemaphore(AT_ONCE)

    def one(service: str, profile: str) -> Deferred[Finding]:
        return Deferred.fromCoroutine(tested(service, profile))

    async def tested(service: str, profile: str) -> Finding:
        finding, facts = await _check(
            services[service][profile], service, profile, reactor, timeout
        )
        if not finding.ok:
            return finding
        return evolve(finding, warnings=config.profiles[service][profile].warnings(facts))

    return await gatherResults([turns.run(one, *name) for name in wanted], consumeErrors=True)


async def _check(
    tested: ProfileService, service: str, profile: str, reactor: Any, timeout: float
) -> tuple[Finding, Mapping[str, object]]:
    began = time.monotonic()
    request = Request(
        service=service,
        profile=profile,
        method="GET",
        path="",
        query="",
        headers=(("accept", "application/json"),),
        body=_NoBody(),
        caller="workato-agent check",
        deadline=reactor.seconds() + timeout,
        trace="",
        request_id="check",
    )
    try:
        running = Deferred.fromCoroutine(_answer(tested, request))
        answer = await running.addTimeout(timeout, reactor)
    except Problem as problem:
        answer = dict[str, Any](problem.members(request.request_id))
    except TimeoutError:
        answer = {
            "code": "deadline_exceeded",
            "detail": f"no answer within {timeout:g} s",
            "hint": "a firewall that drops, or a target that hangs",
        }
    except Exception as error:  # noqa: BLE001 - one profile's fault must not hide the others
        answer = {"code": "internal_error", "detail": f"{type(error).__name__}: {error}"}
    finding = Finding(
        service,
        profile,
        ok=answer.get("ok") is True,
        seconds=round(time.monotonic() - began, 3),
        target=answer.get("target"),
        code=answer.get("code"),
        detail=_on_one_line(answer.get("detail")),
        hint=_on_one_line(answer.get("hint")),
    )
    return finding, answer


def _on_one_line(text: str | None) -> str | None:
    """Drivers write in several, with tabs."""
    return None if text is None else " ".join(text.split())


async def _answer(tested: ProfileService, request: Request) -> dict[str, Any]:
    response: Response = await tested.handle(request)
    content = b""
    if isinstance(response.body, bytes):
        content = response.body
    else:
        async for chunk in response.body:
            content += chunk
            if len(content) > _LARGEST:
                raise Problem("internal_error", "the test's answer is not one")
    return msgspec.json.decode(content, type=dict[str, Any])


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument(
        "profiles",
        metavar="PROFILE",
        nargs="*",
        help="what to test: profiles as sales or database/sales, or the tunnel (default: all)",
    )
    parser.add_argument("--no-connect", action="store_true", help="only read and validate the file")
    parser.add_argument(
        "--schema", action="store_true", help="print the file's JSON Schema and end"
    )
    add_json(parser)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.schema:
        show_json(config_schema())
        return DONE
    try:
        # Root has rights that the agent has not: what it checks would say nothing of the agent.
        become_owner_of(load_options(arguments.config, ("gateway",)).identity)
        config = load_config(arguments.config, fetch=not arguments.no_connect)
    except ConfigError as error:
        tell_config_error(error, as_json=arguments.json)
        return FAILED
    with_tunnel = not arguments.profiles or TUNNEL in arguments.profiles
    wanted, unknown = _select(config, arguments.profiles)
    if unknown:
        say(f"workato-agent check: {arguments.config} has no profile {', '.join(unknown)}")
        return WRONG_USE
    for remark in config.remarks:
        say(f"note: {remark}")
    if arguments.no_connect:
        return _tell_valid(config, arguments.json)
    try:
        findings, steps = on_reactor(
            lambda reactor: _build_and_check(config, wanted, reactor, with_tunnel=with_tunnel)
        )
    except ConfigError as error:
        tell_config_error(error, as_json=arguments.json)
        return FAILED
    good = all(finding.ok for finding in findings) and tunnel_good(steps)
    if arguments.json:
        profiles = [asdict(finding) for finding in findings]
        show_json({"ok": good, "tunnel": [asdict(step) for step in steps], "profiles": profiles})
    else:
        tell_tunnel(steps)
        _tell(findings, alone=not steps)
    return DONE if good else FAILED


async def _build_and_check(
    config: AgentConfig,
    wanted: Sequence[tuple[str, str]],
    reactor: Any,
    *,
    with_tunnel: bool,
) -> tuple[list[Finding], list[Step]]:
    # Imported here: the services' drivers take a while to load, and no other command needs them.
    from ..served import serve_profiles  # noqa: PLC0415

    served = serve_profiles(config, reactor)
    served.start()
    services = {
        service: {name: entry.service for name, entry in entries.items()}
        for service, entries in served.profiles.items()
    }
    diagnosing = Deferred.fromCoroutine(_tunnel(reactor, config, wanted=with_tunnel))
    try:
        return await check_profiles(services, config, wanted, reactor), await diagnosing
    finally:
        await served.close()


async def _tunnel(reactor: Any, config: AgentConfig, *, wanted: bool) -> list[Step]:
    return await diagnose(reactor, config) if wanted else []


def _select(config: AgentConfig, names: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The profiles that are meant, and the names that mean none."""
    there = [(service, profile) for service, profile, _ in config.every_profile()]
    if not names:
        return there, []
    wanted: list[tuple[str, str]] = []
    unknown = []
    for name in names:
        found = [pair for pair in there if name in (pair[1], "/".join(pair))]
        wanted += [pair for pair in found if pair not in wanted]
        if not found and name != TUNNEL:
            unknown.append(name)
    return wanted, unknown


def _tell_valid(config: AgentConfig, as_json: bool) -> int:
    profiles = [f"{service}/{profile}" for service, profile, _ in config.every_profile()]
    if as_json:
        document = {"ok": True, "file": str(config.file), "config_hash": config.config_hash}
        show_json({**document, "profiles": profiles})
    else:
        count = f"{len(profiles)} profile{'' if len(profiles) == 1 else 's'}"
        show(f"{config.file}: {painted('valid', 'good')}, {count}, hash {config.config_hash}")
    return DONE


def _tell(findings: Sequence[Finding], *, alone: bool) -> None:
    if not findings and alone:
        show("no profiles")
    names = [f"{finding.service}/{finding.profile}" for finding in findings]
    width = max(map(len, names), default=0)
    for name, finding in zip(names, findings, strict=True):
        if finding.ok:
            took = painted(f"{finding.seconds:.2f} s", "dim")
            show(f"{painted('ok', 'good')}      {name:<{width}}  {finding.target or ''}  {took}")
            for warning in finding.warnings:
                show(f"{painted('warning', 'doubtful')} {name:<{width}}  {warning}")
        else:
            hint = f" ({finding.hint})" if finding.hint else ""
            reason = f"{finding.code or 'no answer'}: {finding.detail or 'the test failed'}{hint}"
            show(f"{painted('FAILED', 'bad')}  {name:<{width}}  {reason}")


COMMAND = Command(
    "check",
    "validate the config, test the way to the gateway and each profile's target",
    "workato-agent check --config config.yml sales",
    _arguments,
    _run,
)
