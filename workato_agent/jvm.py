"""The one Java virtual machine of this process, and class loaders for what runs in it.

A process can have a single JVM, and it can't be started twice: whatever needs Java takes it from
here. It is started on first use only, and in a thread of its own: a start that hangs holds up
nobody but those who wait for it. ``-Xrs`` leaves signals to the process; without it a JVM takes
SIGTERM away from the reactor.
"""

from __future__ import annotations

import atexit
import glob
import os
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Final

from attrs import define, field

from workato_tunnel.problems import Problem

DEFAULT_HEAP: Final = 512
"""MiB."""
START_SECONDS: Final = 30.0
_EXTRA: Final = "pip install 'workato-agent[jdbc]' or 'workato-agent[jms]', which are the same"
_RUNTIME: Final = "default-jre-headless"
_OLDEST: Final = 11


def expand(entries: Sequence[Path]) -> list[Path]:
    """The files and folders that a class path names.

    An entry is a jar, a folder (its classes and every jar in it) or a pattern such as
    ``lib/*.jar``; ``lib/*`` means the jars, as Java has it. What doesn't exist is left out.
    """
    found: dict[Path, None] = {}
    for entry in entries:
        text = str(entry)
        if entry.is_dir():
            found[entry.absolute()] = None
            jars = sorted(each.absolute() for each in entry.glob("*.jar"))
            found.update(dict.fromkeys(each for each in jars if each.exists()))
        elif entry.exists():
            found[entry.absolute()] = None
        elif glob.has_magic(text):
            matches = sorted(Path(each).absolute() for each in glob.glob(text))  # noqa: PTH207 - absolute patterns
            jars = [each for each in matches if each.suffix == ".jar"]
            found.update(dict.fromkeys(each for each in jars if each.exists()))
    return list(found)


@define
class _Start:
    ended: Event = field(factory=Event)
    failure: Problem | None = None


@define
class Jvm:
    """The process' JVM.

    :ivar heap: MiB that Java's objects may take; read when it is started.
    """

    heap: int = DEFAULT_HEAP
    start_seconds: float = START_SECONDS
    _lock: Lock = field(factory=Lock, init=False)
    _start: _Start | None = field(default=None, init=False)
    _loaders: dict[tuple[tuple[str, int], ...], Any] = field(factory=dict, init=False)

    def thd_start(self) -> Any:
        """The ``jpype`` module with the JVM running; starts it if it is not.

        Raises Problem that says what to install or which setting is wrong. A failed start is tried
        again by the next caller.
        """
        jpype = _jpype()
        with self._lock:
            if self._start is None:
                self._start = _Start()
                Thread(target=self._thd_run, args=(jpype, self._start), daemon=True).start()
            start = self._start
        if not start.ended.wait(self.start_seconds):
            raise Problem(
                "internal_error",
                f"the Java virtual machine has not started within {self.start_seconds:g} s",
                hint="look at the machine's load and memory, then restart the agent",
            )
        if start.failure is not None:
            raise start.failure
        return jpype

    def thd_loader(self, paths: Sequence[Path]) -> Any:
        """A class loader of these jars and folders and of nothing else but Java's own classes.

        The same files share one, so that they are loaded once; others can't clash with them.
        """
        jpype = self.thd_start()
        key = tuple((str(path), path.stat().st_mtime_ns) for path in paths)
        with self._lock:
            loader = self._loaders.get(key)
            if loader is None:
                url = jpype.JClass("java.net.URL")
                file = jpype.JClass("java.io.File")
                urls = jpype.JArray(url)([file(str(path)).toURI().toURL() for path in paths])
                parent = jpype.JClass("java.lang.ClassLoader").getPlatformClassLoader()
                loader = jpype.JClass("java.net.URLClassLoader")(urls, parent)
                self._loaders[key] = loader
        return loader

    def _thd_run(self, jpype: Any, start: _Start) -> None:
        try:
            if not jpype.isJVMStarted():
                self._thd_create(jpype)
        except Problem as problem:
            start.failure = problem
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait have to be told
            start.failure = Problem(
                "internal_error",
                f"the Java virtual machine can't be started: {error}",
                hint=f"a heap of {self.heap} MiB was asked for; check the memory that is free and "
                f"the Java runtime ({_RUNTIME}, Java {_OLDEST} or later)",
            )
        if start.failure is not None:
            with self._lock:
                self._start = None
        start.ended.set()

    def _thd_create(self, jpype: Any) -> None:
        # The process ends without waiting for what drivers have left running.
        jpype.config.destroy_jvm = False
        try:
            library = jpype.getDefaultJVMPath()
        except jpype.JVMNotFoundException:
            home = os.environ.get("JAVA_HOME")
            where = f"; JAVA_HOME is {home}" if home else ""
            raise Problem(
                "internal_error",
                f"no Java runtime was found{where}",
                hint=f"install the Debian package {_RUNTIME}, or set JAVA_HOME for the agent",
            ) from None
        jpype.startJVM(
            "-Xrs",
            f"-Xmx{self.heap}m",
            "-XX:+UseSerialGC",
            "-XX:MinHeapFreeRatio=10",
            "-XX:MaxHeapFreeRatio=20",
            "-Djava.awt.headless=true",
            jvmpath=library,
            classpath=[],
            convertStrings=False,
            interrupt=False,
        )
        # Registered after jpype's own, so it comes before. A Java thread that gives references back
        # to a Python that is being taken down ends the process with SIGABRT.
        queue = jpype.JClass("org.jpype.ref.JPypeReferenceQueue").getInstance()
        atexit.register(queue.stop)


PROCESS_JVM: Final = Jvm()
"""A JVM belongs to the process as its signals do; this is that one."""


def _jpype() -> Any:
    try:
        import jpype  # noqa: PLC0415 - optional, and Java comes with its use
        import jpype.config  # noqa: PLC0415
    except ImportError as error:
        raise Problem(
            "internal_error",
            f"the Python package JPype1 is missing: {error}",
            hint=f"install it with {_EXTRA}",
        ) from None
    return jpype
