"""What a suite's record means, given the failures that are known.

What lives here: reading the record and known_failures.toml, and the rule that an unexpected
failure and an unexpected pass both fail. What does not: running suites. Called by runner.py and
run.py.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from .environment import HERE

KNOWN = HERE / "known_failures.toml"


@dataclass
class Verdict:
    """The counts of one suite and everything about it that nobody expected."""

    suite: str
    may_skip_all: bool = False
    passed: int = 0
    known: int = 0
    skipped: int = 0
    xfailed: int = 0
    seconds: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    surprises: list[str] = field(default_factory=list)
    skips: dict[str, str] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        """Whether everything went as expected, and something ran at all."""
        ran = self.passed + self.known + (self.skipped if self.may_skip_all else 0)
        return not self.failures and not self.surprises and ran > 0

    def line(self) -> str:
        """The one line that is printed for a suite."""
        extra = f", {self.skipped} skipped" if self.skipped else ""
        extra += f", {self.xfailed} xfailed" if self.xfailed else ""
        extra += f", {len(self.surprises)} passed unexpectedly" if self.surprises else ""
        return (
            f"{self.suite}: {self.passed} passed, {len(self.failures)} failed, "
            f"{self.known} known{extra} ({self.seconds:.0f} s)"
        )


def known_failures(suite: str, server: str) -> dict[str, str]:
    """Test -> reason, for this suite on this kind of server."""
    table = tomllib.loads(KNOWN.read_text(encoding="utf-8"))
    reasons: dict[str, str] = {}
    for entry in table.get("failure", []):
        if entry["suite"] != suite or server not in entry["servers"]:
            continue
        if not entry.get("reason", "").strip():
            raise SystemExit(f"known_failures.toml: an entry of {suite} gives no reason")
        for test in entry["tests"]:
            reasons[test] = entry["reason"]
    return reasons


def outcomes(record: Path) -> dict[str, tuple[str, str]]:
    """Test -> (outcome, detail); a later failure of a phase beats an earlier pass."""
    found: dict[str, tuple[str, str]] = {}
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    for text in lines:
        line = json.loads(text)
        test, outcome = line["test"], line["outcome"]
        before = found.get(test, ("", ""))[0]
        if before == "failed" and outcome != "started" and line.get("when") == "teardown":
            continue
        found[test] = (outcome, line.get("detail", ""))
    return found


def judge(suite: str, server: str, record: Path, seconds: float, end: str) -> Verdict:
    """Weigh a record. `end` is empty, or says how the suite's process came to a bad end."""
    # Whole suites are about Potager alone; against Potager a suite that only skips tests nothing.
    verdict = Verdict(suite, seconds=seconds, may_skip_all=server != "potager")
    known = known_failures(suite, server)
    found = outcomes(record)
    for test, (outcome, detail) in found.items():
        if outcome == "passed":
            verdict.passed += 1
            if test in known:
                verdict.surprises.append(test)
        elif outcome in ("failed", "started"):
            if test in known:
                verdict.known += 1
            else:
                verdict.failures[test] = detail or "did not end"
        elif outcome == "xfailed":
            verdict.xfailed += 1
        else:
            verdict.skipped += 1
            verdict.skips[test] = detail
    for test in known.keys() - found.keys():
        verdict.surprises.append(f"{test} (named in known_failures.toml, but not in the suite)")
    if end:
        verdict.failures["(suite)"] = end
    return verdict
