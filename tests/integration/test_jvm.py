"""The JVM within the agent, each time in a process of its own: it can be started only once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.folders import folder_for
from workato_agent.jvm import expand

ROOT = Path(__file__).parents[2]
H2 = Path("/usr/share/java/h2.jar")
_SERVING = """
import sys
from twisted.internet import reactor
from workato_agent.jvm import PROCESS_JVM

def thd_start():
    jpype = PROCESS_JVM.thd_start()
    jpype.JClass("java.lang.Thread").sleep(1)
    print("up", flush=True)

reactor.addSystemEventTrigger("before", "shutdown", lambda: print("clean", flush=True))
reactor.callWhenRunning(reactor.callInThread, thd_start)
reactor.run()
"""


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a piece of Python in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class JvmCase(SynchronousTestCase):
    def output(self, code: str, **environment: str) -> str:
        done = python(code, **environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout


_ENDING = """
import atexit
import jpype
from workato_agent.jvm import PROCESS_JVM

def show():
    print(jpype.JClass("org.jpype.ref.JPypeReferenceQueue").getInstance().isRunning())

atexit.register(show)
PROCESS_JVM.thd_start()
show()
"""


class Processes(JvmCase):
    def test_no_java_thread_calls_a_python_that_is_being_taken_down(self) -> None:
        self.assertEqual(self.output(_ENDING).split(), ["True", "False"])

    def test_sigterm_still_stops_the_process_cleanly(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVING], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        self.assertEqual(process.stdout.readline(), "up\n")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.stdout.read(), "clean\n")
        self.assertEqual(process.wait(30), 0)

    def test_the_process_ends_though_a_thread_of_java_goes_on(self) -> None:
        self.output(
            "from workato_agent.jvm import PROCESS_JVM\n"
            "jpype = PROCESS_JVM.thd_start()\n"
            "timer = jpype.JClass('java.util.Timer')('a thread that is no daemon', False)\n"
        )

    def test_nothing_of_java_is_loaded_before_it_is_used(self) -> None:
        found = self.output(
            "import sys\n"
            "from workato_agent.services.database.adapters.jdbc import JdbcDriver\n"
            "from workato_agent.services.database.settings import *\n"
            "settings = JdbcSettings(url='jdbc:h2:mem:x', driver_class='org.h2.Driver')\n"
            "driver = JdbcDriver.build(settings, DatabasePolicy())\n"
            "print('jpype' in sys.modules, driver.scheme)\n"
        )
        self.assertEqual(found, "False h2\n")

    def test_the_heap_is_bounded(self) -> None:
        found = self.output(
            "from workato_agent.jvm import Jvm\n"
            "jpype = Jvm(heap=64).thd_start()\n"
            "print(jpype.JClass('java.lang.Runtime').getRuntime().maxMemory() // 2**20)\n"
        )
        self.assertLessEqual(int(found), 64)


class Failures(JvmCase):
    def test_without_jpype_the_extra_is_named(self) -> None:
        found = self.output(
            "import sys; sys.modules['jpype'] = None\n"
            "from workato_agent.jvm import PROCESS_JVM\n"
            "try: PROCESS_JVM.thd_start()\n"
            "except Exception as error: print(error.hint)\n"
        )
        self.assertIn("workato-agent[jdbc]", found)

    def test_without_a_runtime_the_package_is_named(self) -> None:
        found = self.output(
            "import jpype\n"
            "def absent(): raise jpype.JVMNotFoundException('none')\n"
            "jpype.getDefaultJVMPath = absent\n"
            "from workato_agent.jvm import PROCESS_JVM\n"
            "try: PROCESS_JVM.thd_start()\n"
            "except Exception as error: print(error.detail, error.hint)\n",
            JAVA_HOME="/nowhere",
        )
        self.assertIn("default-jre-headless", found)
        self.assertIn("JAVA_HOME is /nowhere", found)

    def test_a_start_that_failed_is_tried_again(self) -> None:
        found = self.output(
            "from workato_agent.jvm import Jvm\n"
            "class Late(Jvm):\n"
            "    tries = 0\n"
            "    def _thd_create(self, jpype):\n"
            "        Late.tries += 1\n"
            "        if Late.tries == 1: raise OSError('no memory')\n"
            "        super()._thd_create(jpype)\n"
            "jvm = Late()\n"
            "try: jvm.thd_start()\n"
            "except Exception as error: print(error.detail)\n"
            "print(jvm.thd_start().isJVMStarted())\n"
        )
        self.assertEqual(found, "the Java virtual machine can't be started: no memory\nTrue\n")

    def test_a_start_that_hangs_holds_up_nobody_for_long(self) -> None:
        found = self.output(
            "import threading, time\n"
            "from workato_agent.jvm import Jvm\n"
            "class Hanging(Jvm):\n"
            "    def _thd_create(self, jpype): time.sleep(3600)\n"
            "jvm = Hanging(start_seconds=0.2)\n"
            "def wait():\n"
            "    try: jvm.thd_start()\n"
            "    except Exception as error: print(error.detail + chr(10), end='')\n"
            "threads = [threading.Thread(target=wait) for _ in range(2)]\n"
            "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        )
        line = "the Java virtual machine has not started within 0.2 s\n"
        self.assertEqual(found, line * 2)


class Loaders(JvmCase):
    def test_two_jars_do_not_clash_and_one_is_loaded_once(self) -> None:
        folder = folder_for(self)
        shutil.copy(H2, folder / "other.jar")
        found = self.output(
            "from pathlib import Path\n"
            "from workato_agent.jvm import PROCESS_JVM, expand\n"
            "jpype = PROCESS_JVM.thd_start()\n"
            "def load(path):\n"
            "    loader = PROCESS_JVM.thd_loader(expand([Path(path)]))\n"
            "    return jpype.JClass('java.lang.Class').forName('org.h2.Driver', True, loader)\n"
            f"one, two, again = load('{H2}'), load('{folder}'), load('{H2}')\n"
            "print(one.equals(two), one.equals(again))\n"
        )
        self.assertEqual(found, "False True\n")

    def test_jars_folders_and_patterns(self) -> None:
        folder = folder_for(self)
        for name in ("a.jar", "b.jar", "c.txt"):
            (folder / name).touch()
        (folder / "gone.jar").symlink_to(folder / "nowhere.jar")
        jars = [folder / "a.jar", folder / "b.jar"]
        self.assertEqual(expand([folder / "a.jar"]), jars[:1])
        self.assertEqual(expand([folder]), [folder, *jars])
        self.assertEqual(expand([folder / "*"]), jars)
        self.assertEqual(expand([folder / "b*.jar", folder / "a.jar"]), jars[::-1])
        self.assertEqual(expand([folder / "missing.jar"]), [])
