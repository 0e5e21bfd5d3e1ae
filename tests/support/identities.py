"""An enrolled identity in a folder, without a gateway process."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from workato_agent.identity.keys import certificates_from_pem, generate_key
from workato_agent.identity.store import Credentials, Facts, Identity, save_identity
from workato_gateway.identity.authority import Authority


def make_identity(
    directory: Path, authority: Authority, *, lifetime: float = 86400.0, name: str = "one"
) -> Identity:
    """A stored identity whose certificate that authority has just issued."""
    key = generate_key()
    issued = authority.issue_agent(
        key.public_key(), agent_id=f"id-{name}", group="g", lifetime=lifetime
    )
    identity = Identity(
        directory,
        Facts(f"id-{name}", "wss://gateway.example/tunnel", name, "g"),
        (authority.certificate,),
        Credentials(key, tuple(certificates_from_pem(issued.pem.encode())), datetime.now(UTC)),
    )
    save_identity(identity)
    return identity
