"""How a caller's bundle of connections ends: with all of them, and with nothing left."""

from __future__ import annotations

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
