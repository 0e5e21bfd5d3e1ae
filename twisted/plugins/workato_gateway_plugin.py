"""Makes ``twistd workato-gateway`` known."""

from twisted.application.service import ServiceMaker

workato_gateway = ServiceMaker(
    "workato-gateway",
    "workato_gateway.tap",
    "The gateway that on-prem agents dial and callers call.",
    "workato-gateway",
)
