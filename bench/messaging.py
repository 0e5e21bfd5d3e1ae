"""Message brokers: rates through the tunnel and directly, an idle subscription, and a long drill.

The drill publishes and consumes 100,000 messages (``BENCH_MESSAGES``) while broker, agent, gateway
and tunnel are killed at random moments.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from demo.processes import ProgramError, run, usage
from tests.support.activemq import ActivemqServer
from tests.support.broker_drill import GROUP, Drill

from .memory import process_of
from .results import Result, Target, compared, interleaved
from .site import Site

TEXT: Final = "x" * 200
DRILLED: Final = int(os.environ.get("BENCH_MESSAGES", "100000"))
_COUNT: Final = 10_000
_BATCH: Final = 500
_ROUNDS: Final = 3
_IDLE_SECONDS: Final = 30.0
_KILLS: Final = 24


def measure(site: Site) -> list[Result]:
    """On an ActiveMQ of its own, over STOMP."""
    if site.peers_only:
        return []
    return [
        *_with(site, "messaging", lambda drill: [*_rates(drill), *_idle(drill)], marks=False),
        *_with(site, "messages-under-fire", _under_fire, marks=True),
    ]


def _with(
    site: Site, name: str, measuring: Callable[[Drill], list[Result]], *, marks: bool
) -> list[Result]:
    broker = ActivemqServer.start(marks=marks)
    folder = site.folder / name
    folder.mkdir()
    drill = Drill.start(folder, broker)
    try:
        return measuring(drill)
    finally:
        drill.stop()
        broker.destroy()


def _rates(drill: Drill) -> list[Result]:
    def direct() -> dict[str, float]:
        argv = [sys.executable, "-m", "bench.stomp_direct", str(drill.broker.ports.stomp)]
        root = Path(__file__).parent.parent
        found = run([*argv, str(_COUNT), str(_BATCH)], cwd=root, seconds=300)
        rates: dict[str, float] = json.loads(found)
        return rates

    medians = interleaved({"STOMP directly": direct, "ours": partial(_ours, drill)}, _ROUNDS)
    own = medians["ours"]
    return [
        *compared("messages/s published, 500 a call", medians, "publish"),
        Result("messages/s published", own["publish"], None, Target("ours", least=1000)),
        *compared("messages/s received and acknowledged, 500 a call", medians, "receive"),
        Result("messages/s received", own["receive"], None, Target("ours", least=2000)),
    ]


def _ours(drill: Drill) -> dict[str, float]:
    """One caller, one call after the other, on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", drill.deployment.api_port, timeout=60)

    def call(path: str, body: object) -> Any:
        headers = {"Authorization": f"Bearer {drill.token}"}
        connection.request("POST", f"/v1/groups/{GROUP}/jms/q/{path}", json.dumps(body), headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise ProgramError(f"messaging: {answer}")
        return answer

    messages = {"messages": [{"body": TEXT}] * _BATCH}
    began = time.perf_counter()
    for _ in range(_COUNT // _BATCH):
        call("queues/bench/messages", messages)
    published = _COUNT / (time.perf_counter() - began)
    began, received = time.perf_counter(), 0
    while received < _COUNT:
        answer = call("queues/bench/receive", {"max": _BATCH, "wait": 10})
        if answer["receipt"] is None:
            raise ProgramError(f"messaging: only {received} messages came")
        received += len(answer["messages"])
        call(f"receipts/{answer['receipt']}", {"action": "ack"})
    rate = _COUNT / (time.perf_counter() - began)
    connection.close()
    return {"publish": published, "receive": rate}


def _idle(drill: Drill) -> list[Result]:
    """What ten open subscriptions to which nothing comes cost the agent, each."""
    agent = process_of(drill.deployment.agent)

    def percent() -> float:
        before = usage(agent).cpu
        time.sleep(_IDLE_SECONDS)
        return (usage(agent).cpu - before) / _IDLE_SECONDS * 100

    without = percent()
    open_ones = []
    for number in range(10):
        connection = http.client.HTTPConnection("127.0.0.1", drill.deployment.api_port)
        headers = {"Authorization": f"Bearer {drill.token}", "X-Timeout": "3600"}
        path = f"/v1/groups/{GROUP}/jms/q/queues/idle{number}/subscribe"
        connection.request("POST", path, b"", headers)
        if connection.getresponse().status != 200:
            raise ProgramError("messaging: subscribe failed")
        open_ones.append(connection)
    time.sleep(2)
    each = (percent() - without) / len(open_ones)
    for connection in open_ones:
        connection.close()
    figure = "agent, % of a CPU for an idle subscription"
    return [Result(figure, each, None, Target("ours", most=0.2))]


def _under_fire(drill: Drill) -> list[Result]:
    dice = random.Random(time.time_ns())
    kills = ["broker", "agent", "gateway", "tunnel"] * (_KILLS // 4)
    dice.shuffle(kills)
    drill.run(DRILLED, 100, kills, seed=dice.randrange(2**32), pause=(1.0, 6.0))
    found = drill.summary()
    print(f"messages under fire: {dict(found)}", file=sys.stderr)
    names = ("lost", "acknowledged twice", "again without a mark", "again after acknowledged")
    return [
        Result(
            f"of {DRILLED:,} messages, {len(kills)} kills: {name}",
            found[name],
            None,
            Target("ours", most=0),
        )
        for name in names
    ]
