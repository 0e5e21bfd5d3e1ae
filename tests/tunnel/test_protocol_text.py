"""The examples of docs/protocol.md are what the code writes and reads."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from workato_tunnel import frames
from workato_tunnel.errors import ErrorCode
from workato_tunnel.frames import (
    END,
    HEADER_SIZE,
    Catalogue,
    FrameType,
    Goaway,
    Head,
    Hello,
    Limits,
    Open,
    Profile,
    Reset,
    Trailers,
)
from workato_tunnel.handshake import decode_hello, encode_hello
from workato_tunnel.settings import MAX_MESSAGE, PACK_SIZE, SUBPROTOCOL

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
_LINE = r"[0-9a-f]{2}(?: [0-9a-f]{2})*$"
EXAMPLE = re.compile(rf"^    (\w+): +({_LINE}(?:\n +{_LINE})*)", re.MULTILINE)
EXAMPLES = {name: bytes.fromhex(digits) for name, digits in EXAMPLE.findall(TEXT)}

MAPS: dict[str, tuple[FrameType, int, int, frames.PayloadMap]] = {
    "open": (FrameType.OPEN, 1, END, Open("files", "hr", path="list/")),
    "head": (FrameType.HEAD, 1, 0, Head(200, (("content-type", "text/csv"),))),
    "trailers": (FrameType.TRAILERS, 1, 0, Trailers(4, rows=1, elapsed=3)),
    "reset": (FrameType.RESET, 1, 0, Reset("cancelled")),
    "goaway": (FrameType.GOAWAY, 0, 0, Goaway("draining")),
    "catalogue": (FrameType.CATALOGUE, 0, 0, Catalogue((Profile("files", "hr"),), pid=7)),
}


class ProtocolTextTests(SynchronousTestCase):
    def test_every_frame_type_has_an_example(self) -> None:
        self.assertEqual(set(EXAMPLES), {kind.name.lower() for kind in FrameType})

    def test_the_maps_read_and_write_as_in_the_text(self) -> None:
        for name, (kind, stream, flags, payload) in MAPS.items():
            self.assertEqual(frames.encode_map(kind, stream, payload, flags), EXAMPLES[name])
            self.assertEqual(
                frames.decode_map(type(payload), EXAMPLES[name][HEADER_SIZE:]), payload
            )

    def test_hello_numbers_and_data_read_as_in_the_text(self) -> None:
        hello = Hello(limits=Limits(streams=100), software="demo/1")
        self.assertEqual(decode_hello(EXAMPLES["hello"]).limits, hello.limits)
        self.assertEqual(decode_hello(EXAMPLES["hello"]), hello)
        self.assertEqual(decode_hello(encode_hello(hello)), hello)
        self.assertEqual(frames.decode_number(EXAMPLES["window"][HEADER_SIZE:]), 196_608)
        self.assertEqual(frames.decode_number(EXAMPLES["ack"][HEADER_SIZE:]), 64)
        self.assertEqual(EXAMPLES["data"], frames.encode(FrameType.DATA, 1, b"a,b\n"))

    def test_codes_sizes_and_types_are_those_of_the_text(self) -> None:
        for code in ErrorCode:
            self.assertIn(f"`{code}`", TEXT)
        for kind in FrameType:
            self.assertIn(f"| 0x{kind:02x} | {kind.name} |", TEXT)
        self.assertIn(f"{MAX_MESSAGE:,} bytes", TEXT)
        self.assertIn(f"{PACK_SIZE:,} bytes", TEXT)
        self.assertIn(f"`{SUBPROTOCOL}`", TEXT)
        limits = Limits()
        for name in ("streams", "window", "map_size"):
            self.assertIn(f"`{name}` ({getattr(limits, name)})", TEXT)
