"""A config that changes while the agent runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.agent.test_app import AgentCase
from tests.support.folders import folder_for
from tests.support.tunnel import until
from workato_agent.config import load_config
from workato_agent.reloading import LOOK_EVERY, Reloader
from workato_agent.served import ServedProfiles, serve_profiles


class ReloaderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = folder_for(self)
        self.file = self.folder / "config.yml"
        self.clock = Clock()
        self.told = 0

    def begin(self, text: str) -> ServedProfiles:
        self.write(text)
        config = load_config(self.file)
        self.served = serve_profiles(config, reactor)
        self.reloader = Reloader(
            self.clock, config, self.served, self.changed, in_thread=maybeDeferred
        )
        self.reloader.startService()
        self.addCleanup(self.reloader.stopService)
        return self.served

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def changed(self) -> None:
        self.told += 1

    def files(self, *names: str, **more: str) -> str:
        entries = "".join(f"  {name}: {{ base: {self.folder} }}\n" for name in names)
        entries += "".join(
            f"  {name}: {{ base: {self.folder}, {text} }}\n" for name, text in more.items()
        )
        return f"files:\n{entries}"

    def names(self) -> list[str]:
        return [profile.name for profile in self.served.catalogue()]

    def test_only_what_has_changed_is_built_anew(self) -> None:
        served = self.begin(self.files("a", "b", "c"))
        before = dict(served.profiles["files"])
        self.write(self.files("a", "d", b="policy: { operations: [read] }"))
        self.reloader.reload()
        after = served.profiles["files"]
        self.assertEqual(self.names(), ["a", "d", "b"])
        self.assertIs(after["a"], before["a"])
        self.assertIsNot(after["b"], before["b"])
        self.assertEqual(after["b"].service.operations, ("test", "read"))
        self.assertEqual((self.told, self.reloader.reloads), (1, 1))
        self.assertEqual(served.retiring, 0)

    def test_a_profile_is_closed_when_its_last_call_has_ended(self) -> None:
        served = self.begin(self.files("a", "b"))
        old = served.profiles["files"]["a"]
        closed: list[bool] = []

        async def close() -> None:
            closed.append(True)

        self.patch(old.service, "close", close)
        old.calls = 2
        self.write(self.files("b"))
        self.reloader.reload()
        self.assertEqual(self.names(), ["b"])
        old.leave()
        self.assertEqual((closed, served.retiring), ([], 1))
        old.leave()
        self.assertEqual((closed, served.retiring), ([True], 0))

    def test_an_agent_that_stops_waits_for_no_retired_profile(self) -> None:
        served = self.begin(self.files("a"))
        served.profiles["files"]["a"].calls = 1
        self.write(self.files("b"))
        self.reloader.reload()
        self.successResultOf(Deferred.fromCoroutine(served.close()))
        self.assertEqual(served.retiring, 0)

    def test_a_bad_file_changes_nothing_and_says_why(self) -> None:
        served = self.begin(self.files("a"))
        before = served.profiles
        for text, word in (
            (self.files("a", b="bse: x"), "files.b.bse"),
            ("files: [", "config.yml"),
            ("http: { x: { base_url: 'https://h', ca: nowhere.pem } }", "http.x.ca"),
        ):
            self.write(text)
            self.reloader.reload()
            self.assertIn(word, self.reloader.problem)
            self.assertIs(served.profiles, before)
        self.file.unlink()
        self.reloader.reload()
        self.assertIn("No such file", self.reloader.problem)
        told = self.told
        self.reloader.reload()
        self.assertEqual(self.told, told)
        self.write(self.files("a", "b"))
        self.reloader.reload()
        self.assertEqual((self.reloader.problem, self.names()), ("", ["a", "b"]))

    def test_settings_of_the_agent_wait_for_its_next_start(self) -> None:
        self.begin(self.files("a"))
        self.write("gateway: { drain: 77 }\nlogging: { level: debug }\n" + self.files("b"))
        self.reloader.reload()
        self.assertEqual(self.reloader.waiting, ("gateway", "logging"))
        self.assertEqual(self.names(), ["b"])
        self.assertNotEqual(self.reloader.config.gateway.drain, 77)
        self.write(self.files("b"))
        self.reloader.reload()
        self.assertEqual(self.reloader.waiting, ())

    def test_the_file_is_watched_where_it_says_so(self) -> None:
        watched = "config: { autoReload: true }\n"
        self.begin(watched + self.files("a"))
        self.clock.pump([LOOK_EVERY] * 3)
        self.assertEqual(self.reloader.reloads, 0)
        self.write(watched + self.files("a", "b"))
        self.clock.advance(LOOK_EVERY)
        self.write(watched + self.files("a", "b", "c"))
        self.clock.advance(LOOK_EVERY)
        self.assertEqual(self.reloader.reloads, 0)  # it still changes
        self.clock.advance(LOOK_EVERY)
        self.assertEqual(self.names(), ["a", "b", "c"])
        self.file.unlink()
        self.clock.pump([LOOK_EVERY] * 3)
        self.assertEqual((self.reloader.reloads, self.reloader.problem), (1, ""))
        self.write(self.files("a"))
        self.clock.pump([LOOK_EVERY] * 3)
        self.assertEqual(self.names(), ["a"])
        self.write(self.files("z"))
        self.clock.pump([LOOK_EVERY] * 3)
        self.assertEqual(self.names(), ["a"])

    def test_a_file_is_not_watched_unasked(self) -> None:
        self.begin(self.files("a"))
        self.write(self.files("b"))
        self.clock.pump([LOOK_EVERY] * 5)
        self.assertEqual(self.names(), ["a"])

    def test_a_reading_under_way_is_followed_by_one_more(self) -> None:
        self.begin(self.files("a"))
        readings: list[Deferred[Any]] = []

        def slowly(function: Any, file: Path) -> Deferred[Any]:
            readings.append(Deferred())
            return readings[-1].addCallback(lambda _: function(file))

        self.reloader._in_thread = slowly
        for _ in range(5):
            self.reloader.reload()
        self.write(self.files("b"))
        self.assertEqual(len(readings), 1)
        readings[0].callback(None)
        self.assertEqual(len(readings), 2)
        readings[1].callback(None)
        self.assertEqual((len(readings), self.names()), (2, ["b"]))


class ReloadTests(AgentCase):
    async def test_no_call_is_lost_while_profiles_come_and_go(self) -> None:
        agent = await self.started()
        file = self.folder / "config.yml"
        head = (
            f"gateway: {{ identity: {self.folder}/id, drain: 3 }}\n"
            f"status: {{ socket: {self.folder}/s }}\n"
        )
        calls = 0
        for number in range(40):
            folder = f"base: {self.folder}/data, policy: {{ operations: [read, stat] }}"
            file.write_text(
                f"{head}files:\n  hr: {{ {folder}, }}\n"
                + (f"  x{number}: {{ {folder} }}\n" if number % 2 else "")
                if number % 3
                else f"{head}files:\n  hr: {{ base: {self.folder}/data }}\n"
            )
            pending = [self.call("content/big").done for _ in range(2)]
            agent.reload()
            pending += [self.call("content/a.txt").done for _ in range(3)]
            for done in pending:
                answer = await done
                self.assertIn(len(answer.data), (5, 8_000_000))
                calls += 1
            await until(lambda: agent.reloader._reading is None)
        self.assertEqual((calls, agent.reloader.reloads, agent.reloader.problem), (200, 40, ""))
        await until(lambda: agent.served.retiring == 0)

    async def test_the_gateway_learns_of_profiles_and_problems(self) -> None:
        agent = await self.started()
        file = self.folder / "config.yml"
        text = (
            f"gateway: {{ identity: {self.folder}/id, drain: 3 }}\n"
            f"status: {{ socket: {self.folder}/s }}\n"
        )
        file.write_text(f"{text}files: {{ new: {{ base: {self.folder}/data }} }}\n")
        agent.reload()
        live = self.gateway.live
        await until(lambda: [entry.name for entry in live.catalogue.profiles] == ["new"])
        file.write_text(f"{text}files: {{ new: {{ base: /nowhere/at/all }} }}\n")
        agent.reload()
        await until(lambda: "files.new.base" in live.catalogue.config_problem)
        self.assertEqual([entry.name for entry in live.catalogue.profiles], ["new"])
        self.assertIn("files.new.base", str(agent.status()["config"]))
        file.write_text(f"{text}files: {{ hr: {{ base: {self.folder}/data }} }}\n")
        agent.reload()
        await until(lambda: live.catalogue.config_problem == "")
        answer = await self.call("content/a.txt").done
        self.assertEqual(bytes(answer.data), b"hello")
