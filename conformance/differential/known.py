"""Differences that are known: each has a name, a reason and a test for what it looks like.

What lives here: the list. A difference that nothing here names fails the run. AMQP-nnn are the
deviations of COMPAT.md; `limits` are what this comparison cannot see sharply.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from compare import Difference


@dataclass(frozen=True)
class Known:
    """One difference that may be there."""

    name: str
    reason: str
    is_it: Callable[[Difference], bool]


def _replies(pair: tuple) -> tuple[list, list]:
    return pair[0] or [], pair[1] or []


KNOWN: tuple[Known, ...] = ()


def name_of(found: Difference) -> str | None:
    """The known difference that this is; `None`: nobody knows it."""
    for one in KNOWN:
        if one.is_it(found):
            return one.name
    return None
