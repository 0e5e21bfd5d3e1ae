"""The identity folder."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.identities import make_identity
from workato_agent.identity import store
from workato_agent.identity.keys import CertificateUnfit, generate_key
from workato_agent.identity.store import (
    IdentityError,
    NotEnrolled,
    load_identity,
    save_identity,
)
from workato_gateway.identity.authority import Authority


class IdentityTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()) / "state" / "identity"
        self.authority = Authority.create("CA")

    def refused(self) -> str:
        return str(self.assertRaises(IdentityError, load_identity, self.directory))

    def test_what_is_saved_is_loaded(self) -> None:
        saved = make_identity(self.directory, self.authority)
        loaded = load_identity(self.directory)
        self.assertEqual(loaded.facts, saved.facts)
        self.assertEqual(loaded.certificate, saved.certificate)
        self.assertEqual(loaded.authorities, (self.authority.certificate,))
        self.assertEqual((loaded.name, loaded.agent_id), ("one", "id-one"))

    def test_nobody_else_may_read_it(self) -> None:
        make_identity(self.directory, self.authority)
        self.assertEqual(self.directory.stat().st_mode & 0o777, 0o700)
        modes = {path.name: path.stat().st_mode & 0o777 for path in self.directory.iterdir()}
        names = ("key.pem", "certificate.pem", "ca.pem", "identity.json")
        self.assertEqual(modes, dict.fromkeys(names, 0o600))

    def test_the_key_is_in_no_repr(self) -> None:
        identity = make_identity(self.directory, self.authority)
        self.assertNotIn("PrivateKey", repr(identity))

    def test_without_an_identity_the_command_to_get_one_is_named(self) -> None:
        for prepare in (lambda: None, lambda: self.directory.mkdir(0o700, parents=True)):
            prepare()
            error = self.assertRaises(NotEnrolled, load_identity, self.directory)
            self.assertIn("workato-agent enrol --code", str(error))

    def test_open_permissions_are_refused_with_the_command_to_mend_them(self) -> None:
        make_identity(self.directory, self.authority)
        key = self.directory / "key.pem"
        key.chmod(0o640)
        self.assertIn(f"chmod 600 {key}", self.refused())
        key.chmod(0o600)
        self.directory.chmod(0o755)
        self.assertIn(f"chmod 700 {self.directory}", self.refused())

    def test_a_missing_damaged_or_huge_file_is_named(self) -> None:
        for name in ("key.pem", "certificate.pem", "ca.pem", "identity.json"):
            for content in (None, b"", b"\xff\xfe garbage", b"x" * 300_000):
                make_identity(self.directory, self.authority)
                path = self.directory / name
                path.unlink()
                if content is not None:
                    path.write_bytes(content)
                    path.chmod(0o600)
                self.assertIn(str(path), self.refused())

    def test_a_key_of_another_identity_is_seen(self) -> None:
        make_identity(self.directory, self.authority)
        other = self.directory.parent / "other"
        make_identity(other, self.authority)
        (other / "key.pem").replace(self.directory / "key.pem")
        self.assertIn("do not belong together", self.refused())

    def test_other_files_in_the_folder_are_left_alone(self) -> None:
        self.directory.mkdir(0o700, parents=True)
        (self.directory / "secret.key").write_text("mine")
        make_identity(self.directory, self.authority)
        make_identity(self.directory, self.authority)
        self.assertEqual((self.directory / "secret.key").read_text(), "mine")

    def test_renewal_is_used_at_once_and_survives_a_restart(self) -> None:
        identity = make_identity(self.directory, self.authority, lifetime=3600)
        public = identity.credentials.key.public_key()
        renewed = self.authority.issue_agent(public, agent_id="id-one", group="g", lifetime=9e5)
        identity.renew(renewed.pem.encode())
        again = load_identity(self.directory)
        self.assertEqual(identity.certificate, again.certificate)
        self.assertEqual(again.certificate.not_valid_after_utc.timestamp(), renewed.not_after)

    def test_a_renewal_that_does_not_fit_changes_nothing(self) -> None:
        identity = make_identity(self.directory, self.authority)
        before = identity.certificate
        stranger = generate_key().public_key()
        foreign = self.authority.issue_agent(stranger, agent_id="x", group="g", lifetime=9e5)
        self.assertRaises(CertificateUnfit, identity.renew, foreign.pem.encode())
        self.assertRaises(ValueError, identity.renew, b"nonsense")
        self.assertEqual(identity.certificate, before)
        self.assertEqual(load_identity(self.directory).certificate, before)

    def test_life_counts_from_the_day_the_certificate_came(self) -> None:
        identity = make_identity(self.directory, self.authority, lifetime=600)
        for each in (identity, load_identity(self.directory)):
            self.assertLess(abs(each.lifetime - timedelta(seconds=600)), timedelta(seconds=10))

    def test_a_file_date_in_the_future_is_not_believed(self) -> None:
        make_identity(self.directory, self.authority)
        later = datetime.now(UTC).timestamp() + 9e6
        os.utime(self.directory / "certificate.pem", (later, later))
        self.assertLessEqual(load_identity(self.directory).credentials.since, datetime.now(UTC))


class CrashTests(SynchronousTestCase):
    """A new identity over an old one, cut at every change to the disk."""

    def setUp(self) -> None:
        self.authority = Authority.create("CA")

    def attempt(self, cut_after: int) -> bool:
        """Save a second identity, cut after so many steps; whether it was cut."""
        directory = Path(self.mktemp())
        old = make_identity(directory, self.authority, name="old")
        new = make_identity(Path(self.mktemp()), self.authority, name="new")
        new.directory = directory
        steps = 0

        def step(original: object) -> object:
            def run(*arguments: object, **keywords: object) -> object:
                nonlocal steps
                steps += 1
                if steps > cut_after:
                    raise KeyboardInterrupt
                return original(*arguments, **keywords)  # type: ignore[operator]

            return run

        patches = [
            self.patch(Path, "rename", step(Path.rename)),
            self.patch(Path, "replace", step(Path.replace)),
            self.patch(Path, "rmdir", step(Path.rmdir)),
            self.patch(store.os, "open", step(os.open)),
            self.patch(store.os, "fsync", step(os.fsync)),
        ]
        try:
            save_identity(new)
        except KeyboardInterrupt:
            cut = True
        else:
            cut = False
        for patch in patches:
            patch.restore()
        found = load_identity(directory)
        self.assertIn(found.facts, (old.facts, new.facts))
        self.assertEqual(found.certificate, (old if found.facts == old.facts else new).certificate)
        save_identity(new)
        self.assertEqual(load_identity(directory).facts, new.facts)
        return cut

    def test_whatever_the_moment_the_old_or_the_new_identity_is_there(self) -> None:
        cuts = 0
        while self.attempt(cuts):
            cuts += 1
        self.assertGreater(cuts, 12)
