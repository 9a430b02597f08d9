"""Differences that are known: each has a name, a reason and a test for what it looks like.

What lives here: the list. A difference that nothing here names fails the run. What Potager does
otherwise on purpose is listed here when a generated sequence can meet it; the accidents of the
original that no sequence meets are told in docs/protocols/conformance.md.
"""

from __future__ import annotations

from harness.comparison import Difference, Known, name_among

def _counts_below_zero(found: Difference) -> bool:
    theirs = (found.parts.get("figures") or ({}, {}))[0]
    return any(value < 0 for value in theirs.values())


def _misses_a_timeout(found: Difference) -> bool:
    theirs, ours = found.parts.get("figures") or ({}, {})
    return theirs.get("job-timeouts", 0) != ours.get("job-timeouts", 0)


def _a_refused_put_makes_a_producer(found: Difference) -> bool:
    if set(found.parts) != {"figures"}:
        return False
    theirs, ours = found.parts["figures"]
    more = theirs.get("current-producers", 0) - ours.get("current-producers", 0)
    return more > 0 and {**theirs, "current-producers": 0} == {**ours, "current-producers": 0}


KNOWN: tuple[Known, ...] = (
    Known(
        "below zero",
        "the original counts a connection that ends down twice for a moment: current-workers: -1",
        _counts_below_zero,
    ),
    Known(
        "time-out",
        "the original compares two readings of its clock, and notices now and then only with its "
        "owner's next command that a job's time is over",
        _misses_a_timeout,
    ),
    Known(
        "BEAN-003",
        "the original counts a client as a producer with the line of its first put, whose body may "
        "be refused yet; Potager does with the first job it takes",
        _a_refused_put_makes_a_producer,
    ),
)


def name_of(found: Difference) -> str | None:
    """The known difference that this is; `None`: nobody knows it."""
    return name_among(KNOWN, found)
