"""The packages installed as docs/install.md says: in fresh Debians, under real systemds.

Two machines: ``cloud`` has the gateway and an agent of the group, ``plant`` another agent, of an
older version at first.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import Any, Final

from attrs import define, field, frozen
from twisted.trial.unittest import SynchronousTestCase

from tests.support import steady_calls
from tests.support.machines import Machine, join, poll
from tests.support.packages import NAMES, PREVIOUS, ROOT, PackagingError, built, once, previous

GROUP: Final = "plant-3"
MOST_COMMANDS: Final = 9
MOST_IDLE_KIB: Final = 80 * 1024
MOST_INSTALLED: Final = 120_000_000
CONFIG: Final = "/etc/workato-agent/config.yml"
SECRET: Final = "s3cret-of-the-stock"


def commands_of(heading: str) -> list[str]:
    """The commands in a section of the guide, as somebody types them."""
    text = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    section = re.split(r"(?m)^## ", text)
    (found,) = [each for each in section if each.startswith(f"{heading}\n")]
    return re.findall(r"(?m)^    (\S.*)$", found)


@frozen
class Answer:
    """Of a call; its status is 0 where nothing listened."""

    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@define
class Site:
    """The two machines, and how callers reach them.

    :ivar first_query: what the guide's last command printed.
    :ivar seconds: from apt-get to that.
    """

    cloud: Machine
    plant: Machine
    token: str = field(repr=False)
    first_query: str
    seconds: float

    def call(self, path: str, body: object = None, agent: str = "", timeout: int = 30) -> Answer:
        """A call through the gateway, made on its machine."""
        headers = {"Authorization": f"Bearer {self.token}", "X-Timeout": str(timeout)}
        if agent:
            headers["X-Agent"] = agent
        options = " ".join(f"-H '{name}: {value}'" for name, value in headers.items())
        if body is not None:
            options += f" --json '{json.dumps(body)}'"
        url = f"http://127.0.0.1:8080/v1/groups/{GROUP}/{path}"
        output = self.cloud.run(
            f"curl --silent --write-out '\\n%{{http_code}}' {options} {url} || true"
        )
        content, _, status = output.rpartition("\n")
        return Answer(int(status), content.encode())

    def query(self, profile: str = "first", agent: str = "") -> Answer:
        """A small query."""
        return self.call(f"database/{profile}/query", {"sql": "select 6 * 7 as answer"}, agent)

    def wait_for_answer(self, profile: str = "first", agent: str = "") -> None:
        """Until a query is answered."""
        try:
            poll(lambda: self.query(profile, agent).status == 200, f"{profile} of {agent} answered")
        except PackagingError as error:
            said = self.query(profile, agent).body.decode()
            logs = self.plant.journal("workato-agent") + self.cloud.journal("workato-gateway")
            raise PackagingError(f"{error}: {said}\n{logs}") from None

    def agents(self) -> dict[str, Any]:
        """What the gateway says of each agent of the group."""
        listed = json.loads(self.cloud.run("workato-gateway agent list --json"))
        return {each["name"].split("/")[-1]: each for each in listed}


@once
def site() -> Site:
    """Both machines as the guide sets them up."""
    cloud, plant = Machine.boot("cloud"), Machine.boot("plant")
    join(cloud, plant)
    cloud.take(*(built().file(name) for name in NAMES))
    plant.take(previous().file("workato-agent"))
    began = time.monotonic()
    script = "\n".join(commands_of("On one machine"))
    try:
        printed = cloud.run(f'{script}\necho; echo "$TOKEN"', seconds=300).splitlines()
    except PackagingError as error:
        logs = cloud.journal("workato-gateway") + cloud.journal("workato-agent")
        raise PackagingError(f"{error}\n{logs}") from None
    seconds = time.monotonic() - began
    (code, *rest) = commands_of("Agents on machines of their own")
    code = cloud.run(code).splitlines()[-1]
    profile = commands_of("On one machine")[5]
    plant.run("\n".join([f"CODE={code}", rest[0], profile, *rest[1:]]), seconds=300)
    made = Site(cloud, plant, printed[-1], printed[-2], seconds)
    for machine in (cloud, plant):
        machine.run(
            f"cat >>{CONFIG} <<'END'\n"
            "command_line_scripts:\n"
            "  slow:\n"
            "    scripts:\n"
            "      wait: {name: Wait, command: [/bin/sh, -c, 'sleep 8; echo waited']}\n"
            "END\n"
            "systemctl reload workato-agent"
        )
        made.wait_for_answer(agent=machine.name)
    return made


class GuideTests(SynchronousTestCase):
    def test_it_takes_nine_commands_to_the_answer_of_a_query(self) -> None:
        commands = commands_of("On one machine")
        self.assertLessEqual(len(commands), MOST_COMMANDS)
        self.assertIn("apt-get install", commands[0])
        answer = json.loads(site().first_query)
        self.assertRegex(answer["rows"][0][0], r"\A3\.\d+")

    def test_a_further_agent_joins_the_group(self) -> None:
        agents = site().agents()
        self.assertEqual({"cloud", "plant"}, set(agents))
        for name in agents:
            self.assertEqual(site().query(agent=name).json()["rows"], [[42]])


class ServiceTests(SynchronousTestCase):
    """The services while they run."""

    def test_they_are_enabled_and_say_how_they_are(self) -> None:
        cloud = site().cloud
        for name in NAMES:
            self.assertEqual(cloud.property(name, "UnitFileState"), "enabled")
            self.assertEqual(cloud.property(name, "ActiveState"), "active")
        poll(
            lambda: "Connected to gw.example:8443; " in cloud.property(NAMES[0], "StatusText"),
            "told that the agent is connected",
        )
        poll(
            lambda: "; 2 agents, " in cloud.property(NAMES[1], "StatusText"),
            "told how many agents there are",
        )

    def test_what_is_installed_is_small(self) -> None:
        """With the bytecode that is made when it is installed."""
        total = site().cloud.run("du -cbs /opt/workato-agent /usr/share/doc/workato-* | tail -1")
        self.assertLess(int(total.split()[0]), MOST_INSTALLED)

    def test_an_idle_agent_is_small(self) -> None:
        """With one profile, after its first query."""
        cloud = site().cloud
        cloud.run("systemctl restart workato-agent")
        site().wait_for_answer(agent="cloud")
        pid = cloud.property(NAMES[0], "MainPID")
        status = cloud.run(f"cat /proc/{pid}/status")
        (resident,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
        self.assertLess(int(resident), MOST_IDLE_KIB)

    def test_each_runs_as_its_own_user_in_a_system_that_it_can_not_change(self) -> None:
        for name in NAMES:
            pid = site().cloud.property(name, "MainPID")
            cloud = site().cloud
            self.assertEqual(cloud.run(f"stat -c %U /proc/{pid}").strip(), name)
            mounts = cloud.run(f"cat /proc/{pid}/mounts")
            (root,) = re.findall(r"(?m)^\S+ / \S+ (\S+)", mounts)[-1:]
            self.assertIn("ro", root.split(","))
            status = cloud.run(f"cat /proc/{pid}/status")
            self.assertRegex(status, r"NoNewPrivs:\s+1\n")
            self.assertRegex(status, r"Seccomp:\s+2\n")
            files = cloud.run(f"stat -c '%n %a %U' /var/lib/{name}/* /var/lib/{name}")
            for line in files.splitlines():
                path, mode, owner = line.rsplit(" ", 2)
                self.assertEqual(owner, name, path)
                if not path.endswith(".crt"):
                    self.assertEqual(mode[-2:], "00", path)
            self.assertEqual(
                cloud.run(f"stat -c '%a %U %G' /etc/{name} /etc/{name}/*.yml").splitlines(),
                [f"750 root {name}", f"640 root {name}"],
            )

    def test_a_secret_is_handed_over_as_a_credential(self) -> None:
        """Only root can read the file; the service gets a copy at its start."""
        plant = site().plant
        plant.run(
            f"umask 077; printf {SECRET} >/etc/workato-agent/credentials/stock\n"
            f"sed -i '/^http:/a\\  stock: {{base_url: http://127.0.0.1:9, auth:"
            f" {{bearer: {{file: $CREDENTIALS_DIRECTORY/secret_stock}}}}}}' {CONFIG}\n"
            "systemctl restart workato-agent"
        )
        site().wait_for_answer(agent="plant")
        answer = site().call("http/stock/x", agent="plant")
        self.assertEqual(answer.json()["code"], "target_unreachable")
        self.assertNotIn(SECRET, plant.journal("workato-agent"))

    def test_reload_takes_over_the_config_and_refuses_a_bad_one(self) -> None:
        cloud = site().cloud
        pid = cloud.property(NAMES[0], "MainPID")
        cloud.run(
            f"cp -p {CONFIG} {CONFIG}.before\n"
            "sed -i '/^database:/a\\  second: {adapter: sqlite, database:"
            f" /var/lib/workato-agent/second.db, create: true}}' {CONFIG}\n"
            "systemctl reload workato-agent"
        )
        site().wait_for_answer("second", "cloud")
        cloud.run(f"echo 'nonsense: 1' >>{CONFIG}; systemctl reload workato-agent")
        poll(lambda: "is refused" in cloud.property(NAMES[0], "StatusText"), "refused")
        self.assertEqual(site().query("second", "cloud").status, 200)
        cloud.run(f"mv {CONFIG}.before {CONFIG}; systemctl reload workato-agent")
        poll(lambda: "is refused" not in cloud.property(NAMES[0], "StatusText"), "accepted")
        self.assertEqual(cloud.property(NAMES[0], "MainPID"), pid)

    def test_the_gateway_reads_certificates_again(self) -> None:
        cloud = site().cloud
        pid = cloud.property(NAMES[1], "MainPID")
        cloud.run("systemctl reload workato-gateway")
        self.assertEqual(site().query(agent="cloud").status, 200)
        self.assertEqual(cloud.property(NAMES[1], "MainPID"), pid)

    def test_packages_of_the_host_itself_are_found(self) -> None:
        found = site().cloud.run(
            "mkdir -p /usr/local/lib/workato-agent\n"
            "echo 'ANSWER = 42' >/usr/local/lib/workato-agent/of_the_host.py\n"
            "/opt/workato-agent/bin/python3 -c 'import of_the_host; print(of_the_host.ANSWER)'"
        )
        self.assertEqual(found.strip(), "42")


class TwistdTests(SynchronousTestCase):
    """The same programs under Twisted's own two ways to run one, in place of systemd's."""

    def setUp(self) -> None:
        self.machine = site().cloud

    def without(self, unit: str) -> str:
        """Stop a unit for the time of the test; returns its state's folder."""
        self.machine.run(f"systemctl stop {unit}")
        self.addCleanup(site().wait_for_answer, agent="cloud")
        self.addCleanup(self.machine.run, f"systemctl start {unit}")
        return f"/var/lib/{unit}"

    def test_a_daemon_with_a_pid_file_a_log_file_and_a_user_of_its_own(self) -> None:
        for unit in NAMES:
            state = self.without(unit)
            self.machine.run(
                f"/opt/workato-agent/bin/twistd --pidfile={state}/pid --logfile={state}/twistd.log"
                f" --uid=$(id -u {unit}) --gid=$(id -g {unit}) {unit}"
            )
            site().wait_for_answer(agent="cloud")
            pid = self.machine.run(f"cat {state}/pid").strip()
            self.assertEqual(
                self.machine.run(f"stat -c '%U %G' /proc/{pid}").strip(), f"{unit} {unit}"
            )
            self.machine.run(f"kill {pid}")
            poll(lambda: self.machine.run(f"ls {state}").find("pid") < 0, "stopped")  # noqa: B023
            log = self.machine.run(f"cat {state}/twistd.log; rm {state}/twistd.log")
            self.assertIn("Server Shut Down", log)
            self.assertNotIn("Traceback", log)
            self.doCleanups()

    def test_twist(self) -> None:
        for unit in NAMES:
            self.without(unit)
            self.machine.run(
                f"runuser -u {unit} -- /opt/workato-agent/bin/twist {unit} >/tmp/log 2>&1 &\n"
                "echo $! >/tmp/pid"
            )
            site().wait_for_answer(agent="cloud")
            self.machine.run(
                "pid=$(cat /tmp/pid); kill $pid; while kill -0 $pid; do sleep 0.1; done 2>&-"
            )
            self.assertNotIn("Traceback", self.machine.run("cat /tmp/log; rm /tmp/log /tmp/pid"))
            self.doCleanups()


class SurvivalTests(SynchronousTestCase):
    """What systemd does when a service dies."""

    def died(self, machine: Machine, unit: str, signal: str) -> None:
        """Send a signal to the main process, and wait for the next one to be ready."""
        pid = machine.property(unit, "MainPID")
        machine.run(f"kill -{signal} {pid}")
        poll(
            lambda: (
                machine.property(unit, "MainPID") not in ("0", pid)
                and machine.property(unit, "ActiveState") == "active"
            ),
            f"started anew: {unit}",
        )

    def test_a_killed_agent_is_back_and_answers(self) -> None:
        self.died(site().cloud, "workato-agent", "KILL")
        site().wait_for_answer(agent="cloud")
        sealed = site().cloud.run("workato-agent verify-audit /var/lib/workato-agent/audit")
        self.assertIn("INTACT", sealed)

    def test_a_killed_gateway_is_back_and_its_agents_with_it(self) -> None:
        self.died(site().cloud, "workato-gateway", "KILL")
        for name in ("cloud", "plant"):
            site().wait_for_answer(agent=name)

    def test_an_agent_that_hangs_is_killed_and_started_anew(self) -> None:
        plant = site().plant
        plant.run(
            "mkdir -p /run/systemd/system/workato-agent.service.d\n"
            "printf '[Service]\\nWatchdogSec=5\\nTimeoutAbortSec=1\\n'"
            " >/run/systemd/system/workato-agent.service.d/soon.conf\n"
            "systemctl daemon-reload; systemctl restart workato-agent"
        )
        try:
            self.died(plant, "workato-agent", "STOP")
            self.assertIn("Watchdog timeout", plant.journal("workato-agent"))
        finally:
            plant.run(
                "rm /run/systemd/system/workato-agent.service.d/soon.conf\n"
                "systemctl daemon-reload; systemctl restart workato-agent"
            )
        site().wait_for_answer(agent="plant")


class UpgradeTests(SynchronousTestCase):
    def test_no_call_is_lost_while_one_agent_of_two_is_upgraded(self) -> None:
        plant = site().plant
        for name in ("cloud", "plant"):
            site().wait_for_answer(agent=name)
        poll(lambda: site().agents()["plant"]["version"] == PREVIOUS, "told of the version")
        plant.take(built().file("workato-agent"))
        held = self._held_call()
        calls = subprocess.Popen(
            [
                *("ip", "netns", "exec", site().cloud.network),
                *("env", f"--chdir={ROOT}", sys.executable, "-m", steady_calls.__name__),
                *(f"/v1/groups/{GROUP}/database/first/query", site().token),
                '{"sql": "select 6 * 7"}',
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            plant.run(f"apt-get install -y ./workato-agent_{built().version}_*.deb")
            site().wait_for_answer(agent="plant")
            output, _ = calls.communicate("", timeout=60)
            answer, _ = held.communicate(timeout=60)
        finally:
            calls.kill()
            calls.wait()
        self.assertIn('"waited', answer.replace("\\n", ""))
        result = json.loads(output)
        self.assertEqual(set(result["statuses"]), {"200"}, result["last"])
        self.assertGreater(result["statuses"]["200"], 10)
        poll(
            # The command line reads the store, into which the gateway writes once in a while.
            lambda: site().agents()["plant"]["version"] == built().version,
            "told of the new version",
        )
        self.assertEqual(plant.run("find /opt/workato-agent -name 'gone.*'"), "")

    def _held_call(self) -> subprocess.Popen[str]:
        """A call that the agent has in hand when it is told to stop."""
        script = (
            f"curl --silent --json '{{}}' -H 'Authorization: Bearer {site().token}'"
            f" -H 'X-Agent: plant' http://127.0.0.1:8080/v1/groups/{GROUP}/scripts/slow/wait"
        )
        call = subprocess.Popen(
            ["ip", "netns", "exec", site().cloud.network, "bash", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )

        def in_hand() -> bool:
            if call.poll() is not None:
                self.fail(f"the call that should be held has ended: {call.communicate()[0]}")
            status = json.loads(site().plant.run("workato-agent status --json"))
            return bool(status["calls_in_flight"])

        poll(in_hand, "in hand")
        return call


class RemovalTests(SynchronousTestCase):
    """On a machine of its own: upgrade of a gateway, removal, purge."""

    def test_a_gateway_is_upgraded_removed_and_purged(self) -> None:
        machine = Machine.boot("third")
        self.addCleanup(machine.destroy)
        before = set(machine.run("find / -xdev -path /proc -prune -o -print").splitlines())
        users = machine.run("getent passwd")
        machine.take(*(previous().file(name) for name in NAMES))
        machine.run(
            "\n".join(["apt-get install -y ./workato-*.deb", *commands_of("On one machine")[1:3]]),
            seconds=300,
        )
        # Never enrolled: not started, and no failure.
        self.assertEqual(machine.property("workato-agent", "ActiveState"), "inactive")
        self.assertEqual(machine.property("workato-agent", "ConditionResult"), "no")
        self.assertEqual(machine.property("workato-gateway", "ActiveState"), "active")
        old = machine.property("workato-gateway", "MainPID")

        machine.run("rm workato-*.deb")
        machine.take(*(built().file(name) for name in NAMES))
        machine.run("apt-get install -y ./workato-*.deb", seconds=300)
        self.assertEqual(machine.property("workato-gateway", "ActiveState"), "active")
        self.assertNotEqual(machine.property("workato-gateway", "MainPID"), old)
        self.assertIn(
            "https://gw.example:8443", machine.run("cat /etc/workato-gateway/gateway.yml")
        )

        machine.run("apt-get remove -y workato-agent workato-gateway")
        machine.run("test ! -e /opt/workato-agent")
        for kept in ("/etc/workato-gateway/gateway.yml", "/var/lib/workato-gateway/ca.key", CONFIG):
            machine.run(f"test -e {kept}")

        machine.run("apt-get purge -y workato-agent workato-gateway")
        machine.run("apt-get autoremove --purge -y; rm workato-*.deb; systemctl daemon-reload")
        self.assertEqual(machine.run("getent passwd"), users)
        after = set(machine.run("find / -xdev -path /proc -prune -o -print").splitlines())
        left = {path for path in after - before if "workato" in path}
        self.assertEqual(left, set())
