"""``sasl.jaas.config``: a Java login module with its options, as properties of librdkafka."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_ENTRY: Final = re.compile(
    r"\s*(?P<module>[\w.$]+)\s+(?P<flag>required|requisite|sufficient|optional)"
    r"(?P<options>(?:\s+[\w.]+\s*=\s*(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\s;\"']+))*)\s*;\s*"
)
_OPTION: Final = re.compile(
    r"([\w.]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'|([^\s;\"']+))"
)
_USER_AND_PASSWORD: Final = {"username": "sasl.username", "password": "sasl.password"}
_CLIENT: Final = {
    "clientId": "sasl.oauthbearer.client.id",
    "clientSecret": "sasl.oauthbearer.client.secret",
    "scope": "sasl.oauthbearer.scope",
}
_MODULES: Final[Mapping[str, tuple[Mapping[str, str], tuple[str, ...]]]] = {
    "PlainLoginModule": (_USER_AND_PASSWORD, ("username", "password")),
    "ScramLoginModule": (_USER_AND_PASSWORD, ("username", "password")),
    "OAuthBearerLoginModule": (_CLIENT, ("clientId", "clientSecret")),
}
"""By the class's last name: what its options are called here, and which it needs."""


def jaas_properties(text: str) -> dict[str, str]:
    """What a value of ``sasl.jaas.config`` says. Raises ValueError, which quotes no option."""
    entry = _ENTRY.fullmatch(text)
    if entry is None:
        raise ValueError('expected CLASS required username="…" password="…";')
    module = entry["module"].rpartition(".")[2]
    if module not in _MODULES:
        raise ValueError(
            "expected PlainLoginModule, ScramLoginModule or OAuthBearerLoginModule: no other login"
            " module works here"
        )
    names, needed = _MODULES[module]
    options = {
        name: plain or re.sub(r"\\(.)", r"\1", quoted or single)
        for name, quoted, single, plain in _OPTION.findall(entry["options"])
    }
    for name in needed:
        if not options.get(name):
            raise ValueError(f"{module} needs {name}")
    found = {names[name]: value for name, value in options.items() if name in names}
    if module == "OAuthBearerLoginModule":
        found["sasl.oauthbearer.method"] = "oidc"
    return found
