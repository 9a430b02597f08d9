"""Differences that are known: each has a name, a reason and a test for what it looks like.

What lives here: the list. A difference that nothing here names fails the run. What Potager does
otherwise on purpose is listed here when a generated sequence can meet it; the accidents of the
original that no sequence meets are told in docs/protocols/conformance.md.
"""

from __future__ import annotations

from harness.comparison import Difference, Known, name_among

KNOWN: tuple[Known, ...] = ()


def name_of(found: Difference) -> str | None:
    """The known difference that this is; `None`: nobody knows it."""
    return name_among(KNOWN, found)
