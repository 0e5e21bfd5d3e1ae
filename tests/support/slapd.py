"""A real OpenLDAP of one's own: LDAP, StartTLS and LDAPS with its own CA, in a temporary folder."""

from __future__ import annotations

import atexit
import base64
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

from attrs import define, field

from .certificates import write_certificates
from .ports import free_port

SUFFIX: Final = "dc=ex,dc=org"
ROOT: Final = f"cn=admin,{SUFFIX}"
ROOT_PASSWORD: Final = "s3cret-root"
READER: Final = f"cn=reader,{SUFFIX}"
READER_PASSWORD: Final = "s3cret-rëader"
PEOPLE: Final = 1250
"""Entries below ``ou=people``."""
READER_LIMIT: Final = 600
"""Entries of one search, for the reader."""
PICTURE: Final = b"\xff\xd8\xff\xe0 no picture \x00\x80"
START_SECONDS: Final = 30.0

_PROGRAM: Final = "/usr/sbin/slapd"
_CONFIG: Final = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/pid
TLSCACertificateFile {folder}/ca.crt
TLSCertificateFile {folder}/server.crt
TLSCertificateKeyFile {folder}/server.key
TLSVerifyClient allow
{security}
database mdb
maxsize 33554432
suffix "{suffix}"
rootdn "{root}"
rootpw {password}
directory {folder}/db
dbnosync
limits dn.exact="{reader}" size={limit}
access to attrs=userPassword by self write by anonymous auth by * none
access to dn.subtree="ou=secret,{suffix}" by * none
access to * by dn.exact="{reader}" read by users read by anonymous auth
"""


def _people() -> str:
    return "".join(
        f"""
dn: uid=u{number},ou=people,{SUFFIX}
objectClass: inetOrgPerson
uid: u{number}
cn: Čeněk {number}
sn: Novák
mail: u{number}@ex.org
userPassword: pw{number}
"""
        for number in range(PEOPLE)
    )


def _tree() -> str:
    picture = base64.b64encode(PICTURE).decode()
    return f"""
dn: {SUFFIX}
objectClass: dcObject
objectClass: organization
o: Example
dc: ex

dn: {READER}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword:: {base64.b64encode(READER_PASSWORD.encode()).decode()}

dn: ou=people,{SUFFIX}
objectClass: organizationalUnit
ou: people

dn: ou=secret,{SUFFIX}
objectClass: organizationalUnit
ou: secret

dn: ou=other,{SUFFIX}
objectClass: organizationalUnit
ou: other

dn: cn=elsewhere,ou=other,{SUFFIX}
objectClass: referral
objectClass: extensibleObject
cn: elsewhere
ref: ldap://other.example/ou=elsewhere,dc=other

dn: cn=pointer,ou=other,{SUFFIX}
objectClass: alias
objectClass: extensibleObject
cn: pointer
aliasedObjectName: ou=people,{SUFFIX}

dn: uid=star*(one),ou=other,{SUFFIX}
objectClass: inetOrgPerson
uid: star*(one)
cn: Star, "one" + more
sn: =x
jpegPhoto:: {picture}

dn: uid=plain,ou=other,{SUFFIX}
objectClass: inetOrgPerson
uid: plain
cn: plain
sn: plain
{_people()}"""


@define
class Slapd:
    """A running server. ``folder`` holds ``ca.crt``, ``client.crt`` and ``client.key`` too.

    :ivar security: further lines of its configuration.
    """

    folder: Path
    security: str = ""
    port: int = field(factory=free_port)
    tls_port: int = field(factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, security: str = "") -> Self:
        """A new server with its entries. Takes less than a second."""
        folder = Path(tempfile.mkdtemp(prefix="onprem-ldap-"))
        server = cls(folder, security)
        atexit.register(server.destroy)
        folder.chmod(0o755)
        (folder / "db").mkdir()
        write_certificates(folder, "agent")
        (folder / "slapd.conf").write_text(
            _CONFIG.format(
                folder=folder,
                security=security,
                suffix=SUFFIX,
                root=ROOT,
                password=ROOT_PASSWORD,
                reader=READER,
                limit=READER_LIMIT,
            )
        )
        (folder / "entries.ldif").write_text(_tree(), encoding="utf-8")
        user = _unprivileged()
        if user:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, user["user"], user["group"])
        subprocess.run(
            [
                "/usr/sbin/slapadd",
                "-q",
                "-f",
                str(folder / "slapd.conf"),
                "-l",
                str(folder / "entries.ldif"),
            ],
            check=True,
            capture_output=True,
            timeout=60,
            **user,
        )
        server.resume()
        return server

    @property
    def url(self) -> str:
        """Without TLS."""
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def tls_url(self) -> str:
        """With TLS."""
        return f"ldaps://127.0.0.1:{self.tls_port}"

    @property
    def ca(self) -> Path:
        """The CA of its certificate."""
        return self.folder / "ca.crt"

    def resume(self) -> None:
        """Start it again after :meth:`kill`, or for the first time."""
        urls = f"{self.url} {self.tls_url}"
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [_PROGRAM, "-d", "0", "-f", str(self.folder / "slapd.conf"), "-h", urls],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **_unprivileged(),
            )
        until = time.monotonic() + START_SECONDS
        while not (_listens(self.port) and _listens(self.tls_port)):
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"slapd: {(self.folder / 'output').read_text()[-4000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """As kill -9 does; its data stays."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)

    def freeze(self) -> None:
        """It stands still: its sockets take connections, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    def destroy(self) -> None:
        """Stop it for good and remove the folder."""
        atexit.unregister(self.destroy)
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)


@cache
def shared_slapd() -> Slapd:
    """One server for all tests that leave it as it was; it ends with the process."""
    return Slapd.start()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def _unprivileged() -> dict[str, Any]:
    """Whom to run it as, for ``subprocess``."""
    if os.getuid() != 0:
        return {}
    entry = pwd.getpwnam("openldap")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
