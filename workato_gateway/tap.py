"""``twistd workato-gateway``: options and the service they make."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from twisted.application.service import IService
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from .app import Gateway
from .config import Config, ConfigError, load
from .identity.authority import AuthorityError
from .storage.interface import StoreError


class Options(UsageOptions):
    """The command line after ``twistd workato-gateway``."""

    optParameters: ClassVar[list[list[str | None]]] = [
        ["config", "c", "/etc/workato-gateway/gateway.yml", "The gateway's configuration."]
    ]
    config: Config

    def postOptions(self) -> None:
        """Read the config, so that what is wrong with it is a wrong use. Raises UsageError."""
        try:
            self.config = load(Path(self["config"]))
        except ConfigError as error:
            raise UsageError(str(error)) from error


def makeService(options: Options) -> IService:
    """The gateway that the options describe. Ends the program when it can't be built."""
    from twisted.internet import reactor  # noqa: PLC0415 - twistd may install another one before

    try:
        return Gateway(options.config, reactor)
    except (AuthorityError, StoreError, OSError) as error:
        raise SystemExit(f"workato-gateway: {error}") from error
