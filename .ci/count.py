"""count.py LOG [FAILED STEP …]: the last line of a CI run, from what trial counted.

A skipped test or one marked as expected to fail has shown nothing, so it counts as failed; so do
a step that failed without a failing test (lint, a run that broke off) and a run with no tests.
"""

import re
import sys
from pathlib import Path

_RAN = re.compile(r"^Ran (\d+) tests? in ", re.MULTILINE)
_VERDICT = re.compile(r"^(?:PASSED|FAILED)(?: \((.*)\))?$", re.MULTILINE)


def count(log: str) -> tuple[int, int]:
    """The tests that passed and those that did not, over every trial run in the log."""
    passed = sum(
        int(number)
        for verdict in _VERDICT.findall(log)
        for name, number in re.findall(r"(\w+)=(\d+)", verdict)
        if name == "successes"
    )
    failed = sum(
        int(number)
        for verdict in _VERDICT.findall(log)
        for name, number in re.findall(r"(\w+)=(\d+)", verdict)
        if name != "successes"
    )
    ran = sum(int(number) for number in _RAN.findall(log))
    # A fixture's error counts beside its tests; a run that broke off counts fewer than it ran.
    return passed, max(failed, ran - passed)


def main(log: str, *failed_steps: str) -> int:
    """Print the line; 0 only when tests ran and all of everything passed."""
    passed, failed = count(Path(log).read_text(encoding="utf-8", errors="replace"))
    if "lint" in failed_steps or ("test" in failed_steps and not failed):
        failed += 1
    if not passed:
        failed = max(failed, 1)
        print("no test passed")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
