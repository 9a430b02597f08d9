"""A pytest plugin that writes each test's outcome as one JSON line, at once.

What lives here: the record that run.py judges, complete up to the moment of a crash or a time-
out. What does not: any judgement. Loaded with `-p conformance_recorder` into our suites and the
upstream ones.
"""

import json
import os

TAIL = 3000


def _write(**record):
    with open(os.environ["CONFORMANCE_RECORD"], "a", encoding="utf-8") as out:
        out.write(json.dumps(record) + "\n")


def pytest_runtest_logstart(nodeid, location):
    """A test begins; without an end it was running when the suite was killed."""
    _write(test=nodeid, outcome="started")


def pytest_runtest_logreport(report):
    """One phase ended; set-up and teardown count only when they fail or skip."""
    outcome = report.outcome
    if outcome == "rerun" or (report.when != "call" and outcome == "passed"):
        return
    if outcome == "skipped" and hasattr(report, "wasxfail"):
        outcome = "xfailed"
    _write(
        test=report.nodeid, outcome=outcome, when=report.when,
        seconds=round(report.duration, 2),
        detail="" if outcome == "passed" else str(report.longrepr)[-TAIL:],
    )


def pytest_collectreport(report):
    """A module that cannot be imported is a failure of its own."""
    if report.failed:
        _write(test=report.nodeid, outcome="failed", when="collect", seconds=0,
               detail=str(report.longrepr)[-TAIL:])
