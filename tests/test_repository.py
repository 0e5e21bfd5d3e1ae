"""What a newcomer meets: the package, the samples, the commands that the documentation names."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from workato_agent.config import load_config
from workato_gateway import config as gateway_config

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


def output(*argv: str, cwd: Path, **environment: str) -> str:
    """What a command prints, both ways; it must succeed."""
    done = subprocess.run(
        argv,
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "HOME": str(cwd), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"{' '.join(argv)} exited with {done.returncode}:\n{done.stdout}")
    return done.stdout


def headings(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    lines = re.findall(r"(?m)^#{1,6} (.+)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def data_files(folder: Path) -> set[Path]:
    """What the packages below a folder hold beside code."""
    found = (path for suffix in ("sql", "yml") for path in folder.glob(f"workato_*/**/*.{suffix}"))
    return {path.relative_to(folder) for path in found}


class InstallationTests(SynchronousTestCase):
    """The wheel, not the checkout."""

    def test_a_wheel_holds_all_that_the_two_programs_need(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        source = folder / "source"
        shutil.copytree(
            ROOT,
            source,
            ignore=shutil.ignore_patterns(".*", "_trial_temp*", "build", "*.egg-info", "tests"),
        )
        output(
            *[str(BIN / "pip"), "wheel", "--quiet", "--no-deps", "--no-build-isolation"],
            *[f"--wheel-dir={folder}", str(source)],
            cwd=folder,
        )
        (wheel,) = folder.glob("*.whl")
        installed = folder / "installed"
        zipfile.ZipFile(wheel).extractall(installed)
        packages = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
        self.assertEqual(
            packages,
            {"twisted", "workato_agent", "workato_client", "workato_gateway", "workato_tunnel"},
        )
        # Twisted's own package: an __init__.py of ours would hide Twisted itself.
        self.assertEqual([], list((installed / "twisted").rglob("__init__.py")))
        self.assertEqual(data_files(ROOT), data_files(installed))

        elsewhere = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, elsewhere)
        code = (
            "import workato_agent, workato_gateway.storage.sqlite\n"
            "from twisted.application.service import IServiceMaker\n"
            "from twisted.plugin import getPlugins\n"
            "print(workato_agent.__file__)\n"
            "names = [plugin.tapname for plugin in getPlugins(IServiceMaker)]\n"
            "print(sorted(name for name in names if 'workato' in name))\n"
        )
        isolated = output(
            *[sys.executable, "-P", "-c", code], cwd=elsewhere, PYTHONPATH=str(installed)
        )
        self.assertIn(str(installed), isolated)
        self.assertIn("['workato-agent', 'workato-gateway']", isolated)

    def test_twistd_finds_both_programs_from_any_folder(self) -> None:
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        for program in ("workato-agent", "workato-gateway"):
            self.assertIn("--config=", output(str(BIN / "twistd"), program, "--help", cwd=folder))


class SampleTests(SynchronousTestCase):
    """``etc/`` is valid as it is, and so is what it offers in comments."""

    def test_the_agents_sample_loads(self) -> None:
        config = load_config(ROOT / "etc" / "workato-agent" / "config.yml")
        self.assertEqual({}, {name: dict(each) for name, each in config.profiles.items() if each})

    def test_the_gateways_sample_loads(self) -> None:
        config = gateway_config.load(ROOT / "etc" / "workato-gateway" / "gateway.yml")
        self.assertEqual("/tunnel", config.public_url.tunnel[-7:])


class DocumentationTests(SynchronousTestCase):
    """What the documentation says can be done."""

    def _documents(self) -> list[Path]:
        return [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]

    def test_links_between_documents_lead_somewhere(self) -> None:
        broken = []
        for document in self._documents():
            text = document.read_text(encoding="utf-8")
            links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
            broken += [
                f"{document.relative_to(ROOT)}: {link}"
                for link in links
                if "://" not in link and not (document.parent / link).exists()
            ]
        self.assertEqual([], broken)

    def test_links_to_headings_lead_to_one(self) -> None:
        broken = []
        for document in self._documents():
            text = document.read_text(encoding="utf-8")
            for link, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", text):
                page = document.parent / link if link else document
                if "://" not in link and anchor not in headings(page):
                    broken.append(f"{document.relative_to(ROOT)}: {link}#{anchor}")
        self.assertEqual([], broken)

    def test_the_pages_made_from_the_code_are_what_it_says(self) -> None:
        output(sys.executable, ".ci/reference.py", "--check", cwd=ROOT)

    def test_the_make_targets_that_are_named_exist(self) -> None:
        rules = (ROOT / "Makefile").read_text(encoding="utf-8")
        for document in self._documents():
            text = document.read_text(encoding="utf-8")
            for target in re.findall(r"(?:`|    )make ([a-z]+)", text):
                self.assertRegex(rules, rf"(?m)^{target}:", f"{document.name}: make {target}")

    def test_the_subcommands_that_are_named_exist(self) -> None:
        known = {
            program: output(str(BIN / program), "--help", cwd=ROOT)
            for program in ("workato-agent", "workato-gateway")
        }
        for document in self._documents():
            text = document.read_text(encoding="utf-8")
            for program, command in re.findall(
                r"(?:`|    |\$ )(workato-(?:agent|gateway)) ([a-z][a-z-]*)", text
            ):
                self.assertIn(f"    {command}", known[program], f"{document.name}: {program}")

    def test_the_agent_config_in_the_readme_loads(self) -> None:
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        examples = re.findall(r"```yaml\n# config\.yml\n(.*?)```", text, re.DOTALL)
        self.assertEqual(1, len(examples))
        folder = Path(self.mktemp()).absolute()
        for needed in ("reports", "identity"):
            (folder / needed).mkdir(parents=True)
        for secret in ("erp.password", "stock.password"):
            (folder / secret).write_text("x", encoding="utf-8")
        content = examples[0].replace("/srv/reports", str(folder / "reports"))
        (folder / "config.yml").write_text(
            content.replace("/etc/workato-agent", str(folder)), encoding="utf-8"
        )
        config = load_config(folder / "config.yml")
        self.assertEqual(
            {"database": ["erp"], "files": ["reports"], "http": ["stock"]},
            {service: list(entries) for service, entries in config.profiles.items() if entries},
        )
