"""How a caller's bundle of connections ends: with all of them, and with nothing left."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from websockets.frames import CloseCode

from tests.agent.test_tcp_bundle import BundleCase


class EndTests(BundleCase):
    def setUp(self) -> None:
        super().setUp()
        self.idle = 100.0
        self.begin(timeout=60_000)
        for _ in range(3):
            self.connect()

    def assert_inner_codes(self, *codes: str) -> None:
        for inner in range(1, 4):
            self.assertIn(self.end_of(f"r-1.{inner}").code, codes)

    def test_a_callers_close_frame_ends_all(self) -> None:
        self.library.send_close(CloseCode.NORMAL_CLOSURE)
        self.write(b"".join(self.library.data_to_send()))
        self.assert_closed(CloseCode.NORMAL_CLOSURE)
        self.assert_inner_codes("tunnel_lost")

    def test_the_end_of_the_callers_bytes_ends_all(self) -> None:
        self.stream.half_close()
        self.assert_all_over()
        self.assert_inner_codes("tunnel_lost")

    def test_a_caller_that_is_gone_ends_all(self) -> None:
        self.stream.reset("cancelled")
        self.assert_all_over()
        self.assert_inner_codes("tunnel_lost")
        self.assertEqual(self.end_of("r-1").code, "cancelled")

    def test_the_deadline_of_the_whole_ends_all(self) -> None:
        self.pair.clock.advance(60)
        self.assert_all_over()
        self.assert_inner_codes("tunnel_lost")
        self.assertEqual(self.end_of("r-1").code, "deadline_exceeded")

    def test_an_agent_that_stops_ends_all(self) -> None:
        self.dispatcher.abort()
        self.assert_all_over()
        self.assert_inner_codes("tunnel_lost")

    def test_a_tunnel_that_is_lost_ends_all(self) -> None:
        self.pair.agent.terminate("no_error", "over")
        self.assert_all_over()
        self.assert_inner_codes("tunnel_lost")

    def test_targets_that_have_ended_in_order_are_no_hindrance(self) -> None:
        self.targets[0].transport.lose(ConnectionDone())
        self.targets[1].ends()
        self.stream.reset("cancelled")
        self.assert_all_over()


class ConnectingTests(BundleCase):
    """The same while the target has not answered yet."""

    def setUp(self) -> None:
        super().setUp()
        self.begin()
        self.service.waiting = self.waiting = Deferred(lambda _: self.cancelled.append(True))
        self.cancelled: list[bool] = []
        self.one, self.first = self.connect()

    def test_what_the_caller_says_meanwhile_comes_behind(self) -> None:
        self.say(self.one, b"early", end=True)
        self.assertEqual(self.first.status, 0)
        self.waiting.callback(None)
        self.exchange()
        self.assertEqual(self.first.status, 200)
        self.assertEqual(self.targets[0].takes(), b"early")
        self.assertTrue(self.targets[0].transport.half_closed)

    def test_a_connection_that_is_reset_meanwhile_is_not_made_and_the_others_go_on(self) -> None:
        self.service.waiting = None
        two, _ = self.connect()
        self.connection.reset_stream(self.one, "cancelled")
        self.exchange()
        self.assertEqual((self.cancelled, self.end_of("r-1.1").code), ([True], "cancelled"))
        self.say(two, b"on")
        self.assertEqual(self.targets[0].takes(), b"on")

    def test_a_caller_that_is_gone_meanwhile_leaves_nothing_behind(self) -> None:
        self.stream.reset("cancelled")
        self.assert_all_over()
        self.assertEqual(self.cancelled, [True])
        self.assertEqual(self.targets, [])
