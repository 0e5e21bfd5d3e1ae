"""``workato-gateway group``: groups of interchangeable agents."""

from __future__ import annotations

import argparse

from .administration import add_arguments, open_administration
from .output import result, result_json, result_table, say

EXAMPLE = """example:
  workato-gateway group create plant-3 --config /srv/gateway/gateway.yml
  workato-gateway group allow plant-3 203.0.113.0/24 --config /srv/gateway/gateway.yml"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its subcommands."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    create = commands.add_parser("create", help="make a group")
    create.add_argument("name", metavar="NAME")
    create.add_argument(
        "--allow",
        metavar="NETWORK",
        action="append",
        default=[],
        help="admit agents from this network only (repeat for more)",
    )
    create.set_defaults(command=_create)

    listing = commands.add_parser("list", help="show the groups")
    listing.set_defaults(command=_list)

    allow = commands.add_parser("allow", help="say from where the group's agents may come")
    allow.add_argument("name", metavar="NAME")
    allow.add_argument("networks", metavar="NETWORK", nargs="*", help="none: from everywhere")
    allow.set_defaults(command=_allow)

    delete = commands.add_parser("delete", help="delete a group")
    delete.add_argument("name", metavar="NAME")
    delete.add_argument("--force", action="store_true", help="revoke its agents before")
    delete.set_defaults(command=_delete)

    for each in (create, listing, allow, delete):
        add_arguments(each)


def _create(arguments: argparse.Namespace) -> None:
    administration = open_administration(arguments)
    body = {"name": arguments.name, "allowed_networks": arguments.allow}
    document = administration.call("POST", ("groups",), body)
    if arguments.json:
        result_json(document)
    else:
        result(document["name"])
        say("next: an activation code for its first agent, with workato-gateway agent code")


def _list(arguments: argparse.Namespace) -> None:
    groups = open_administration(arguments).call("GET", ("groups",))["groups"]
    if arguments.json:
        result_json(groups)
        return
    result_table(
        ("NAME", "AGENTS", "ALLOWED NETWORKS", "CREATED"),
        [(g["name"], g["agents"], g["allowed_networks"], g["created"]) for g in groups],
    )


def _allow(arguments: argparse.Namespace) -> None:
    document = open_administration(arguments).call(
        "PATCH", ("groups", arguments.name), {"allowed_networks": arguments.networks}
    )
    if arguments.json:
        result_json(document)
    else:
        result(" ".join(document["allowed_networks"]) or "from everywhere")


def _delete(arguments: argparse.Namespace) -> None:
    query = {"force": "true"} if arguments.force else None
    open_administration(arguments).call("DELETE", ("groups", arguments.name), None, query)
    if arguments.json:
        result_json({"deleted": arguments.name})
    else:
        say(f"deleted {arguments.name}")
