"""The agent as a Windows service. Needs pywin32, which the agent's installation brings along there.

In an administrator's prompt, with the Python of the agent's virtualenv:

    python workato_agent_service.py --startup auto install
    python workato_agent_service.py start
    python workato_agent_service.py stop
    python workato_agent_service.py remove

The config is %ProgramData%\\workato-agent\\config.yml, or what the machine's environment variable
WORKATO_AGENT_CONFIG names; it needs a logging.path. What keeps the agent from starting is in the
event log. Never run on a real Windows so far.
"""

import servicemanager
import win32service
import win32serviceutil
from twisted.internet import reactor

from workato_agent.app import StartError
from workato_agent.cli.output import default_config
from workato_agent.config import ConfigError
from workato_agent.hosted import start

GRACE = 15
"""Seconds for the closing, beyond those that calls in flight have (gateway.drain)."""


class AgentService(win32serviceutil.ServiceFramework):
    """One agent. Stopping lets calls in flight end."""

    _svc_name_ = "workato-agent"
    _svc_display_name_ = "On-prem agent"
    _svc_description_ = "Lets callers of a gateway reach what its config names, and nothing else."

    _drain = 30.0

    def SvcDoRun(self):  # noqa: N802 - pywin32's name
        """Run until the service is stopped."""
        try:
            agent = start(default_config(), reactor)
        except (ConfigError, StartError) as error:
            servicemanager.LogErrorMsg(f"The agent can't start: {error}")
            self.ReportServiceStatus(win32service.SERVICE_STOPPED, win32ExitCode=1)
            return
        self._drain = agent.config.gateway.drain
        servicemanager.LogInfoMsg("The agent has started")
        reactor.run(installSignalHandlers=False)
        servicemanager.LogInfoMsg("The agent has stopped")

    def SvcStop(self):  # noqa: N802 - pywin32's name
        """Windows calls this in another thread than the reactor's."""
        patience = int((self._drain + GRACE) * 1000)
        self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING, waitHint=patience)
        reactor.callFromThread(reactor.stop)


if __name__ == "__main__":
    win32serviceutil.HandleCommandLine(AgentService)
