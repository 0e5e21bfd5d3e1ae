"""``workato-gateway token``: who may call what."""

from __future__ import annotations

import argparse

from ..config import seconds_of
from .administration import add_arguments, open_administration
from .output import result, result_json, result_table, say

EXAMPLE = """example:
  workato-gateway token create --owner erp-sync --scope 'plant-3:database:*:*' --expires 90d \\
      --config /srv/gateway/gateway.yml | tail -1"""


def _duration(text: str) -> float:
    try:
        return seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def configure(parser: argparse.ArgumentParser) -> None:
    """Its subcommands."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    create = commands.add_parser("create", help="make a token; it is shown once")
    create.add_argument("--owner", metavar="NAME", required=True, help="who it is for")
    create.add_argument(
        "--scope",
        metavar="SCOPE",
        required=True,
        action="append",
        help="GROUP:SERVICE:PROFILE:METHOD, each part a name or *; or admin (repeat for more)",
    )
    create.add_argument(
        "--expires", metavar="DURATION", type=_duration, help="as 30d or 12h; default: never"
    )
    create.set_defaults(command=_create)

    listing = commands.add_parser("list", help="show the tokens, without their texts")
    listing.set_defaults(command=_list)

    revoke = commands.add_parser("revoke", help="make a token worthless")
    revoke.add_argument("id", metavar="ID", help="as in the list")
    revoke.set_defaults(command=_revoke)

    for each in (create, listing, revoke):
        add_arguments(each)


def _create(arguments: argparse.Namespace) -> None:
    document = open_administration(arguments).call(
        "POST",
        ("tokens",),
        {
            "owner": arguments.owner,
            "scopes": arguments.scope,
            "expires_in": arguments.expires,
        },
    )
    if arguments.json:
        result_json(document)
        return
    until = f"until {document['expires']}" if document["expires"] else "until it is revoked"
    say(f"token {document['id']} of {document['owner']}, good {until}; it is not shown again:")
    result(document["token"])


def _list(arguments: argparse.Namespace) -> None:
    tokens = open_administration(arguments).call("GET", ("tokens",))["tokens"]
    if arguments.json:
        result_json(tokens)
        return
    header = ("ID", "OWNER", "STATUS", "SCOPES", "EXPIRES", "LAST USED")
    keys = ("id", "owner", "status", "scopes", "expires", "last_used")
    result_table(header, [tuple(token[key] for key in keys) for token in tokens])


def _revoke(arguments: argparse.Namespace) -> None:
    open_administration(arguments).call("DELETE", ("tokens", arguments.id))
    if arguments.json:
        result_json({"revoked": arguments.id})
    else:
        say(f"revoked {arguments.id}")
