"""``workato-gateway agent``: who is enrolled, and activation codes for those to come."""

from __future__ import annotations

import argparse
from typing import Any

from .administration import Administration, CommandError, add_arguments, open_administration
from .output import result, result_json, result_table, say

EXAMPLE = """example:
  workato-gateway agent code plant-3 --config /srv/gateway/gateway.yml | tail -1
  workato-gateway agent disable plant-3/press-7 --config /srv/gateway/gateway.yml"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its subcommands."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    code = commands.add_parser("code", help="make an activation code: one agent, one hour")
    code.add_argument("group", metavar="GROUP")
    code.add_argument(
        "--name",
        metavar="NAME",
        help="the agent's name; default: its host name. The name of an"
        " agent that is there already sets that one up anew",
    )
    code.set_defaults(command=_code)

    listing = commands.add_parser("list", help="show the agents and how they are")
    listing.add_argument("--group", metavar="GROUP", help="only of this group")
    listing.set_defaults(command=_list)

    made = [code, listing]
    for name, command, text in (
        ("disable", _disable, "cut an agent off until it is enabled again"),
        ("enable", _enable, "let a disabled agent in again"),
        ("revoke", _revoke, "cut an agent off for good"),
    ):
        change = commands.add_parser(name, help=text)
        change.add_argument("name", metavar="[GROUP/]NAME")
        change.set_defaults(command=command)
        made.append(change)

    for each in made:
        add_arguments(each)


def _code(arguments: argparse.Namespace) -> None:
    body = {} if arguments.name is None else {"name": arguments.name}
    document = open_administration(arguments).call(
        "POST", ("groups", arguments.group, "activation-codes"), body
    )
    if arguments.json:
        result_json(document)
        return
    if document["replaces"]:
        say(
            f"note: the agent {arguments.name} is set up already;"
            " with this code it is set up anew, and its present certificate is revoked then"
        )
    say(f"on the agent's machine, until {document['expires']}: workato-agent enrol --code CODE")
    result(document["code"])


def _agents(administration: Administration, group: str | None) -> list[dict[str, Any]]:
    if group is None:
        names = [each["name"] for each in administration.call("GET", ("groups",))["groups"]]
    else:
        names = [group]
    found: list[dict[str, Any]] = []
    for name in names:
        found += administration.call("GET", ("groups", name, "agents"))["agents"]
    return found


def _list(arguments: argparse.Namespace) -> None:
    agents = _agents(open_administration(arguments), arguments.group)
    if arguments.json:
        result_json(agents)
        return
    header = ("GROUP", "NAME", "STATUS", "HOST", "ADDRESS", "VERSION", "LAST SEEN", "CERT. UNTIL")
    keys = (
        "group",
        "name",
        "status",
        "host",
        "address",
        "version",
        "last_seen",
        "certificate_expires",
    )
    result_table(header, [tuple(agent[key] for key in keys) for agent in agents])


def _path(administration: Administration, name: str) -> tuple[str, ...]:
    """The resource of ``NAME`` or ``GROUP/NAME``."""
    group, slash, bare = name.rpartition("/")
    if slash:
        return ("groups", group, "agents", bare)
    found = [each for each in _agents(administration, None) if bare in (each["name"], each["id"])]
    if not found:
        raise CommandError(f"there is no agent {bare}")
    if len(found) > 1:
        names = ", ".join(f"{each['group']}/{each['name']}" for each in found)
        raise CommandError(f"several agents have that name, say which: {names}")
    return ("groups", found[0]["group"], "agents", found[0]["id"])


def _change(arguments: argparse.Namespace, enabled: bool) -> None:
    administration = open_administration(arguments)
    path = _path(administration, arguments.name)
    document = administration.call("PATCH", path, {"enabled": enabled})
    if arguments.json:
        result_json(document)
    else:
        say(f"{document['group']}/{document['name']} is {document['status']}")


def _disable(arguments: argparse.Namespace) -> None:
    _change(arguments, enabled=False)


def _enable(arguments: argparse.Namespace) -> None:
    _change(arguments, enabled=True)


def _revoke(arguments: argparse.Namespace) -> None:
    administration = open_administration(arguments)
    administration.call("DELETE", _path(administration, arguments.name))
    if arguments.json:
        result_json({"revoked": arguments.name})
    else:
        say(f"revoked {arguments.name}; to use it again, enrol it with a new code")
