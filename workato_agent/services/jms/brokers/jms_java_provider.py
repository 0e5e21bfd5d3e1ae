"""A broker's client library within the process' JVM: its classes, and its ConnectionFactory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from attrs import define, field, frozen

from workato_agent.jvm import Jvm, expand
from workato_tunnel.problems import Problem

from ..settings import JavaSettings, JndiSettings
from . import jms_java_activemq as activemq
from .jms_java_beans import thd_bean
from .jms_java_errors import Fault, fault, problem

_APIS: Final = ("javax.jms", "jakarta.jms")
_API_JARS: Final = "javax.jms or jakarta.jms"
_CONTEXT: Final = "java.naming."
_MOST_PLACES: Final = 1000


@frozen
class Api:
    """The interfaces of JMS, of the package that the library implements."""

    package: str
    loader: Any
    text_message: Any
    bytes_message: Any
    queue: Any
    topic: Any
    bytes_of: Callable[[int], Any]
    """Makes a ``byte[]`` of that length."""

    @classmethod
    def thd_of(cls, jpype: Any, package: str, loader: Any) -> Api:
        """Load them."""
        names = ("TextMessage", "BytesMessage", "Queue", "Topic")
        text, bytes_, queue, topic = (
            jpype.JClass(f"{package}.{name}", loader=loader) for name in names
        )
        return cls(package, loader, text, bytes_, queue, topic, jpype.JArray(jpype.JByte))


@define(eq=False)
class Provider:
    """What connections are made with.

    :ivar places: queues and topics that JNDI has been asked for.
    :ivar activemq: for ActiveMQ's own library, whatever the profile calls it; else None.
    """

    jpype: Any
    settings: JavaSettings
    api: Api
    factory: Any
    activemq: activemq.Parts | None = None
    places: dict[str, Any] = field(factory=dict, init=False)

    @property
    def looks_up(self) -> bool:
        """Whether queues and topics are looked up in JNDI."""
        return self.settings.jndi is not None and self.settings.jndi.destinations

    def thd_look_up(self, name: str) -> Any:
        """What JNDI has by that name. Each time in a context of its own: one that is kept can't
        be shared by threads, and is of no use once its connection is lost."""
        found = self.places.get(name)
        if found is None and self.settings.jndi is not None:
            found = thd_looked_up(self.jpype, self.settings.jndi, name)
            if len(self.places) >= _MOST_PLACES:
                self.places.clear()
            self.places[name] = found
        return found

    @property
    def errors(self) -> Any:
        """Java's exceptions."""
        return self.jpype.JException

    def thd_enter(self) -> None:
        """Whatever a thread does with the library: some look for their parts by way of this."""
        self.jpype.JClass("java.lang.Thread").currentThread().setContextClassLoader(self.api.loader)

    def thd_leave(self) -> None:
        """Before a thread ends that has used the library."""
        self.jpype.JClass("java.lang.Thread").detach()


def thd_provider(settings: JavaSettings, jvm: Jvm) -> Provider:
    """Start the JVM if need be, load the library and make its factory. Connects to nothing, but
    for a naming service. Raises Problem that says what is missing."""
    jpype = jvm.thd_start()
    loader, places = _thd_loader(jpype, settings, jvm)
    jpype.JClass("java.lang.Thread").currentThread().setContextClassLoader(loader)
    with _told(jpype, settings, places):
        if settings.jndi is None:
            factory = _thd_factory(jpype, loader, settings)
        else:
            factory = thd_looked_up(jpype, settings.jndi, settings.jndi.factory)
        api = _thd_api(jpype, loader, factory, places)
        provider = Provider(jpype, settings, api, factory)
        if _is_activemq(str(factory.getClass().getName())):
            provider.activemq = activemq.Parts.thd_of(jpype, loader)
            activemq.thd_tuned(factory, str(factory.getBrokerURL()))
        return provider


def _thd_loader(jpype: Any, settings: JavaSettings, jvm: Jvm) -> tuple[Any, list[Path]]:
    """A class loader that has the profile's class, or at least its jars."""
    own = expand(settings.classpath)
    places = [own, activemq.debian_jars()] if _is_activemq(settings.factory or "") else [own]
    for paths in places:
        if paths and settings.factory is not None:
            loader = jvm.thd_loader(paths)
            try:
                jpype.JClass("java.lang.Class").forName(settings.factory, False, loader)
            except jpype.JException:
                continue
            return loader, paths
    paths = own or places[-1]
    return jvm.thd_loader(paths), paths


def _is_activemq(factory: str) -> bool:
    return factory.startswith("org.apache.activemq.ActiveMQ")


def _thd_factory(jpype: Any, loader: Any, settings: JavaSettings) -> Any:
    name, properties = settings.factory or "", dict(settings.properties)
    if settings.type == "activemq":
        name = activemq.FACTORY if settings.tls is None else activemq.TLS_FACTORY
    if _is_activemq(name) and activemq.URL in properties:
        url = properties[activemq.URL]
        properties[activemq.URL] = activemq.bounded_url(url, settings.connect_timeout, settings.tls)
    found = jpype.JClass("java.lang.Class").forName(name, True, loader)
    factory = thd_bean(jpype, found, properties)
    if settings.type == "activemq" and settings.tls is not None:
        activemq.thd_secured(jpype, factory, settings.tls)
    return factory


def thd_looked_up(jpype: Any, jndi: JndiSettings, looked_for: str) -> Any:
    """What a naming service has by a name. Raises Problem for what it can't be made into."""
    environment = jpype.JClass("java.util.Hashtable")()
    for name, value in (
        (f"{_CONTEXT}factory.initial", jndi.initial_context),
        (f"{_CONTEXT}provider.url", jndi.url),
        (f"{_CONTEXT}security.principal", jndi.username),
        (f"{_CONTEXT}security.credentials", jndi.password),
        *jndi.environment.items(),
    ):
        if value is not None:
            environment.put(jpype.JString(name), jpype.JString(value))
    context = jpype.JClass("javax.naming.InitialContext")(environment)
    try:
        found = context.lookup(looked_for)
    finally:
        context.close()
    if found is None or str(found.getClass().getName()) == "javax.naming.Reference":
        raise Problem(
            "target_not_found",
            f"what JNDI has as {looked_for} can't be loaded",
            hint="put the jars of the broker's client library into server.classpath",
        )
    return found


def _thd_api(jpype: Any, loader: Any, factory: Any, places: list[Path]) -> Api:
    for package in _APIS:
        try:
            interface = jpype.JClass(f"{package}.ConnectionFactory", loader=loader)
        except (TypeError, jpype.JException):  # JPype's own for a class that isn't there
            continue
        if isinstance(factory, interface):
            return Api.thd_of(jpype, package, loader)
    raise Problem(
        "target_not_found",
        f"{factory.getClass().getName()} is no ConnectionFactory of {_API_JARS}",
        hint="the class is named in the library's manual, often as its JMS connection factory; "
        f"looked in {_listed(places)}",
    )


@contextmanager
def _told(jpype: Any, settings: JavaSettings, places: list[Path]) -> Iterator[None]:
    """What Java throws while a library is loaded, as a Problem."""
    try:
        yield
    except jpype.JException as error:
        found = fault(error)
        if found.has("ClassNotFoundException", "NoClassDefFoundError", "NoInitialContextException"):
            raise _missing(found, settings, places) from None
        raise problem(found, settings, "connecting") from None


def _missing(found: Fault, settings: JavaSettings, places: list[Path]) -> Problem:
    wanted = settings.jndi.initial_context if settings.jndi else settings.factory or ""
    hint = "put the jars of the broker's client library, with the JMS interfaces, into "
    hint += "server.classpath"
    if _is_activemq(settings.factory or ""):
        hint += f"; Debian has ActiveMQ's as {activemq.DEBIAN}"
    if wanted.replace(".", "/") in found.text or wanted in found.text:
        text = f"the class {wanted} is in none of the jars"
    else:
        text = f"{wanted} needs a class that is in none of the jars: {found.text}"
    return Problem("target_not_found", f"{text} ({_listed(places)})", hint=hint)


def _listed(places: list[Path]) -> str:
    return ", ".join(str(path) for path in places) or "server.classpath is empty"
