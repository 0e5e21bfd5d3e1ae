"""count.py LOG [FAILED STEP …]: the last line of a CI run, from what trial counted.

A skipped test or one marked as expected to fail has shown nothing, so it counts as failed; so do
a step that failed without a failing test (lint, a run that broke off) and a run with no tests.

``count.py --again LOG`` prints the tests that failed, where they are few and account for all that
did not pass: they may be tried once more by themselves. ``LOG.again`` is what came of that.
"""

import re
import sys
from pathlib import Path

_RAN = re.compile(r"^Ran (\d+) tests? in ", re.MULTILINE)
_TEST = re.compile(r"^tests(?:\.\w+)+\.[A-Z]\w*\.test_\w+$", re.MULTILINE)
_FEW = 5
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


def again(log: str) -> list[str]:
    """The tests that may be tried once more."""
    ran = sum(int(number) for number in _RAN.findall(log))
    tests = sorted(set(_TEST.findall(log)))
    return tests if len(tests) == ran - count(log)[0] <= _FEW else []


def main(log: str, *failed_steps: str) -> int:
    """Print the line; 0 only when tests ran and all of everything passed."""
    text = Path(log).read_text(encoding="utf-8", errors="replace")
    passed, failed = count(text)
    second = Path(f"{log}.again")
    if second.exists():
        repaired, failed = count(second.read_text(encoding="utf-8", errors="replace"))
        failed = max(failed, len(again(text)) - repaired)
        passed += repaired
        print(f"on a second try {repaired} passed: {' '.join(again(text))}")
    if "lint" in failed_steps or ("test" in failed_steps and not failed):
        failed += 1
    if not passed:
        failed = max(failed, 1)
        print("no test passed")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1] == "--again":
        print(*again(Path(sys.argv[2]).read_text(encoding="utf-8", errors="replace")))
        sys.exit(0)
    sys.exit(main(*sys.argv[1:]))
