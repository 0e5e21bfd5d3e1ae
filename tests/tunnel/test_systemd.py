"""What systemd is told, on a socket as systemd's."""

from __future__ import annotations

import os
import socket

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.folders import folder_for
from workato_tunnel.tx.systemd import LOOK_EVERY, SystemdNotifier


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.status = "fine"
        self.address = str(folder_for(self) / "notify")
        self.receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.receiver.close)
        self.receiver.setblocking(False)

    def notifier(self, **environ: str) -> SystemdNotifier:
        self.environ = {"NOTIFY_SOCKET": self.address, "PATH": "/bin", **environ}
        notifier = SystemdNotifier.of(self.clock, lambda: self.status, self.environ)
        self.addCleanup(notifier.end)
        return notifier

    def listening(self, **environ: str) -> SystemdNotifier:
        self.receiver.bind(self.address.replace("@", "\0", 1))
        return self.notifier(**environ)

    def heard(self) -> list[str]:
        """The datagrams that have come since the last look."""
        found = []
        while True:
            try:
                found.append(self.receiver.recv(4096).decode())
            except BlockingIOError:
                return found


class WordsTests(Case):
    def test_ready_goes_with_the_status(self) -> None:
        self.listening().ready()
        self.assertEqual(self.heard(), ["READY=1\nSTATUS=fine"])

    def test_the_abstract_namespace(self) -> None:
        self.address = f"@onprem-test-{os.getpid()}"
        self.listening().ready()
        self.assertEqual(self.heard(), ["READY=1\nSTATUS=fine"])

    def test_a_reload_has_a_beginning_and_an_end(self) -> None:
        notifier = self.listening()
        notifier.ready()
        notifier.reloading()
        notifier.ready()
        _, begin, end = self.heard()
        self.assertRegex(begin, r"\ARELOADING=1\nMONOTONIC_USEC=\d+\Z")
        self.assertEqual(end, "READY=1")

    def test_stopping_asks_for_the_time_that_it_takes(self) -> None:
        self.listening().stopping(90.5)
        self.assertEqual(self.heard(), ["STOPPING=1\nEXTEND_TIMEOUT_USEC=90500000"])

    def test_a_status_is_told_once_and_in_one_line(self) -> None:
        self.listening().ready()
        self.heard()
        self.clock.advance(LOOK_EVERY)
        self.assertEqual(self.heard(), [])
        self.status = "gone:\nREADY=0"
        self.clock.advance(LOOK_EVERY)
        self.clock.advance(LOOK_EVERY)
        self.assertEqual(self.heard(), ["STATUS=gone: READY=0"])

    def test_nothing_is_told_after_the_end(self) -> None:
        notifier = self.listening(WATCHDOG_USEC="60000000")
        notifier.ready()
        self.heard()
        notifier.end()
        self.clock.advance(60)
        self.assertEqual((self.heard(), self.clock.getDelayedCalls()), ([], []))


class WatchdogTests(Case):
    def alive(self, watchdog: str, **environ: str) -> int:
        """Signs of life in a minute."""
        notifier = self.listening(WATCHDOG_USEC=watchdog, **environ)
        notifier.ready()
        self.heard()
        signs = 0
        for _ in range(120):
            self.clock.advance(0.5)
            signs += self.heard().count("WATCHDOG=1")
        return signs

    def test_there_are_two_or_three_in_the_time_that_systemd_waits(self) -> None:
        self.assertIn(self.alive("20000000"), (6, 7, 8, 9))

    def test_a_short_time_too(self) -> None:
        self.assertGreaterEqual(self.alive("1500000"), 80)

    def test_they_go_on_while_the_process_stops(self) -> None:
        notifier = self.listening(WATCHDOG_USEC="4000000")
        notifier.ready()
        notifier.stopping(30)
        self.heard()
        self.clock.pump([0.5] * 6)
        self.assertIn("WATCHDOG=1", self.heard())

    def test_none_where_none_is_wanted(self) -> None:
        self.assertEqual(self.alive(""), 0)

    def test_none_of_a_process_that_was_not_meant(self) -> None:
        self.assertEqual(self.alive("4000000", WATCHDOG_PID=str(os.getpid() + 1)), 0)


class EnvironmentTests(Case):
    def test_children_do_not_inherit_it(self) -> None:
        self.notifier(WATCHDOG_USEC="1", WATCHDOG_PID=str(os.getpid()))
        self.assertEqual(self.environ, {"PATH": "/bin"})

    def test_without_systemd_nothing_happens(self) -> None:
        notifier = SystemdNotifier.of(self.clock, lambda: self.status, {})
        notifier.ready()
        notifier.reloading()
        notifier.stopping(3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_could_not_be_told_is_told_at_the_next_look(self) -> None:
        notifier = self.notifier()
        notifier.ready()  # nobody listens yet
        self.receiver.bind(self.address)
        self.clock.advance(LOOK_EVERY)
        self.assertEqual(self.heard(), ["READY=1\nSTATUS=fine"])
