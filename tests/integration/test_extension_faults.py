"""Nothing that an extension does takes the agent down. Real processes, really killed."""

from __future__ import annotations

import os
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.support.extensions import MIB, ExtensionCase, alive
from tests.support.files import Chunks
from tests.support.tunnel import reactor, until
from workato_agent.requests import Response
from workato_tunnel.problems import Problem


class Failures(ExtensionCase):
    async def assert_serves_on(self) -> None:
        self.assertTrue((await self.about())["pid"])

    async def test_what_is_raised_is_in_the_log_and_not_in_the_answer(self) -> None:
        self.serve()
        problem = await self.problem("raises")
        self.assertEqual(problem.code, "internal_error")
        self.assertEqual(problem.detail, "the extension x failed: ValueError")
        self.assertTrue(any("secret-detail" in line for line in self.log), self.log)
        pid = (await self.about())["pid"]
        self.assertEqual((await self.problem("exits")).detail, "the extension x failed: SystemExit")
        self.assertEqual((await self.about())["pid"], pid)

    async def test_problems_are_passed_on(self) -> None:
        self.serve()
        problem = await self.problem("refuses")
        self.assertEqual(
            (problem.code, problem.detail, problem.hint, problem.extra),
            ("conflict", "not now", "later", {"field": "x"}),
        )

    async def test_answers_that_are_none(self) -> None:
        self.serve()
        for case in ("none", "header", "name", "hop", "status", "chunk"):
            with self.subTest(case):
                self.assertEqual((await self.problem("nonsense", case)).code, "internal_error")
        await self.assert_serves_on()

    async def test_a_process_that_dies_is_started_anew(self) -> None:
        self.serve()
        before = (await self.about())["pid"]
        problem = await self.problem("dies")
        self.assertEqual((problem.code, problem.status), ("target_unreachable", 502))
        self.assertIn("extension x ended by itself (with exit code 7)", problem.detail)
        self.assertIn("x: last words", self.log)
        after = await self.about()
        self.assertNotEqual(after["pid"], before)
        self.assertEqual(after["calls"], 1)

    async def test_a_process_that_leaves_another_behind_is_given_up_all_the_same(self) -> None:
        self.serve(note=str(self.note))
        self.assertIn("with exit code 9", (await self.problem("leaves")).detail)
        await self.assert_serves_on()
        os.kill(int(self.note.read_text()), 9)

    async def test_a_process_that_crashes_is_started_anew(self) -> None:
        self.serve()
        self.assertIn("by signal SIGSEGV", (await self.problem("segfaults")).detail)
        await self.assert_serves_on()

    async def test_a_process_that_is_killed_is_started_anew(self) -> None:
        self.serve()
        os.kill((await self.about())["pid"], 9)
        await until(lambda: self.service._process is None)
        await self.assert_serves_on()

    async def test_who_writes_into_the_agents_pipe_is_ended(self) -> None:
        self.serve()
        self.assertIn("breaks the protocol", (await self.problem("raw")).detail)
        await self.assert_serves_on()

    async def test_more_memory_than_allowed_is_a_problem_and_a_new_process(self) -> None:
        self.serve(memory_limit="128MiB")
        before = (await self.about())["pid"]
        problem = await self.problem("takes", f"size={500 * MIB}")
        self.assertEqual(problem.code, "overloaded")
        self.assertIn("limit is 128 MiB", problem.detail)
        await until(lambda: not alive(before))
        await self.assert_serves_on()

    async def test_a_leak_costs_its_own_process_only(self) -> None:
        self.serve(memory_limit="128MiB")
        codes = set()
        for _ in range(8):
            try:
                await self.call("takes", f"size={40 * MIB}")
            except Problem as problem:
                codes.add(problem.code)
                await until(lambda: self.service._process is None)
        self.assertEqual(codes, {"overloaded"})
        await self.assert_serves_on()

    async def test_what_is_printed_is_in_the_log(self) -> None:
        self.serve()
        await self.call("prints")
        await until(lambda: "x: to stdout" in self.log and "x: to stderr" in self.log)

    async def test_a_chatterer_waits(self) -> None:
        self.serve()
        await self.call("prints", "more=300")
        lines = sum(line.startswith("x: line") for line in self.log)
        self.assertLessEqual(lines, 200)
        await until(lambda: "x: line 299" in self.log)

    async def test_an_extension_that_ends_again_and_again_is_left_alone_for_longer(self) -> None:
        self.serve("tests.support.extension_cases.Counts", note=str(self.note))
        problems = [await self.problem("") for _ in range(4)]
        self.assertEqual([each.retry_after for each in problems], [None, None, None, 2])
        self.assertIn("started again in 2 s", problems[3].detail)
        self.assertEqual(len(self.note.read_text()), 3)


class Stopping(ExtensionCase):
    async def stop_while(self, path: str) -> tuple[int, int]:
        """The process before and after a call that was cancelled."""
        self.serve(note=str(self.note))
        before = (await self.about())["pid"]
        running = self.begin(path)
        await until(self.note.exists)
        began = time.monotonic()
        await self.cancel(running)
        after = (await self.about())["pid"]
        self.assertLess(time.monotonic() - began, 10)
        return before, after

    async def test_a_call_that_looks_ends_and_the_process_stays(self) -> None:
        before, after = await self.stop_while("waits")
        self.assertEqual(before, after)

    async def test_a_call_that_blocks_is_ended_with_its_process(self) -> None:
        before, after = await self.stop_while("sleeps")
        self.assertNotEqual(before, after)
        self.assertFalse(alive(before))

    async def test_a_call_that_holds_the_interpreter_is_ended_as_well(self) -> None:
        before, after = await self.stop_while("spins")
        self.assertNotEqual(before, after)
        self.assertFalse(alive(before))

    async def test_what_an_extension_has_started_ends_with_it(self) -> None:
        await self.stop_while("child")
        child = int(self.note.read_text())
        await until(lambda: not alive(child))

    async def test_other_calls_on_it_are_told(self) -> None:
        self.serve(note=str(self.note), concurrency=2)
        first = self.begin("sleeps")
        await until(self.note.exists)
        second = self.begin("sleeps")
        await deferLater(reactor, 0.1)
        await self.cancel(first)
        problem = await self.problem_of(second)
        self.assertEqual(problem.code, "target_unreachable")
        self.assertIn("a call did not stop", problem.detail)

    async def problem_of(self, running: Deferred[Response]) -> Problem:
        try:
            await running
        except Problem as problem:
            return problem
        raise AssertionError("no problem")

    async def test_a_call_that_waits_for_its_turn_can_leave(self) -> None:
        self.serve(note=str(self.note))
        first = self.begin("waits")
        await until(self.note.exists)
        await self.cancel(self.begin("about"))
        await self.cancel(first)
        self.assertEqual((await self.about())["calls"], 2)

    async def test_a_caller_that_leaves_while_it_starts_disturbs_nobody(self) -> None:
        self.serve()
        first, second = self.begin("about"), self.begin("about")
        await deferLater(reactor, 0.01)
        await self.cancel(first)
        self.assertEqual((await second).status, 200)

    async def test_a_request_body_that_is_lost_ends_the_call(self) -> None:
        self.serve()
        try:
            await self.call("json", body=Chunks([b"{"], lost=True))
        except Problem as problem:
            self.assertEqual(problem.code, "tunnel_lost")
        self.assertTrue((await self.about())["pid"])

    async def test_closing_lets_it_close_itself(self) -> None:
        self.serve(closed=str(self.note))
        pid = (await self.about())["pid"]
        assert self.served is not None
        await self.served.close()
        self.assertEqual(self.note.read_text(), "closed")
        self.assertFalse(alive(pid))

    async def test_closing_does_not_wait_for_a_call_that_hangs(self) -> None:
        self.serve(note=str(self.note))
        running = self.begin("sleeps")
        await until(self.note.exists)
        assert self.served is not None
        began = time.monotonic()
        await self.served.close()
        self.assertLess(time.monotonic() - began, 4)
        self.assertEqual((await self.problem_of(running)).code, "target_unreachable")

    async def test_a_changed_profile_gets_a_new_process_and_calls_end_on_the_old(self) -> None:
        self.serve(note=str(self.note), colour="red")
        assert self.served is not None
        old = self.served.profiles["extensions"]["x"]
        old.calls += 1  # as the dispatcher does
        running = self.begin("echo", body=SlowBody())
        before = self.service
        await until(lambda: before._process is not None and before._process._exchanges)
        update = self.served.prepare(self.config(note=str(self.note), colour="blue"))
        self.assertEqual(update.changed, (("extensions", "x"),))
        self.served.apply(update)
        self.assertEqual((await self.about())["settings"]["colour"], "blue")
        response = await running
        body = response.body
        content = body if isinstance(body, bytes) else b"".join([chunk async for chunk in body])
        self.assertEqual(content, b"slow")
        old.leave()
        await until(lambda: before._process is None)

    async def test_it_ends_with_the_agent_whatever_ends_that(self) -> None:
        self.serve(note=str(self.note))
        pid = (await self.about())["pid"]
        running = self.begin("sleeps")
        await until(self.note.exists)
        process = self.service._process
        process.transport.pipes[3].loseConnection()
        await until(lambda: not alive(pid))
        self.assertEqual((await self.problem_of(running)).code, "target_unreachable")


class SlowBody:
    """A request's body that takes its time."""

    async def __aiter__(self) -> Any:
        for chunk in (b"sl", b"ow"):
            await deferLater(reactor, 0.3)
            yield chunk
