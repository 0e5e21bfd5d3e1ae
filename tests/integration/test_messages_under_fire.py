"""Real processes and a real broker, killed while messages go through: none is lost."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.activemq import ActivemqServer
from tests.support.broker_drill import Drill

COUNT = 1_000
KILLS = ["agent", "tunnel", "broker", "gateway"]


class MessagesUnderFire(SynchronousTestCase):
    def test_nothing_is_lost_whatever_is_killed(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="drill-"))
        self.addCleanup(shutil.rmtree, folder)
        broker = ActivemqServer.start()
        self.addCleanup(broker.destroy)
        drill = Drill.start(folder, broker)
        self.addCleanup(drill.stop)
        status, answer = drill.call("GET", "")
        self.assertEqual((status, answer["ok"]), (200, True), answer)
        drill.run(COUNT, 20, KILLS, seed=4711)
        found = drill.accounts
        self.assertEqual(len(found.confirmed), COUNT)
        self.assertEqual(found.lost, set())
        self.assertEqual(found.twice, [])
        self.assertEqual(found.revived, set())
        self.assertEqual(found.unmarked, set())
