"""Makes ``twistd workato-agent`` known."""

from twisted.application.service import ServiceMaker

workato_agent = ServiceMaker(
    "workato-agent",
    "workato_agent.tap",
    "The on-prem agent that dials a gateway and serves its calls.",
    "workato-agent",
)
