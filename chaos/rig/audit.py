"""Holding what is in the queues against what was promised, message by message.

What lives here: the comparison of one work queue, one chain of commits, one queue with dead
letters. What does not: draining and clients (clients.py). Used by power.py and eio.py.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from rig.ledger import Books

Drained = list[tuple[str, bool]]


@dataclass
class Findings:
    """What is wrong, by kind, and what was counted."""

    wrong: dict[str, set[str]] = field(default_factory=dict)
    counts: Counter = field(default_factory=Counter)

    def add(self, kind: str, ids) -> None:
        """Remember ids that break a rule."""
        self.wrong.setdefault(kind, set()).update(ids)

    def merge(self, other: Findings) -> None:
        """Take in another audit."""
        for kind, ids in other.wrong.items():
            self.add(kind, ids)
        self.counts += other.counts


def work(books: Books, left: Drained) -> Findings:
    """A queue with publishers and consumers; `left` is what was in it at the end."""
    found = Findings()
    there = {what for what, _ in left}
    _common(found, books, there | set(books.receipts))
    found.add("twice without the redelivered flag", ())
    found.add("confirmed and lost", books.confirmed - there - books.tried)
    found.add("settled and back", there & set(books.settled))
    for what, receipts in books.receipts.items():
        receipts.sort()
        settled = books.settled.get(what)
        if settled is not None and receipts[-1][0] > settled:
            found.add("settled and back", [what])
        if any(not redelivered for _, redelivered in receipts[1:]):
            found.add("twice without the redelivered flag", [what])
        found.counts["duplicates"] += len(receipts) - 1
    for what, redelivered in left:
        if what in books.receipts:
            found.counts["duplicates"] += 1
            if not redelivered:
                found.add("twice without the redelivered flag", [what])
    found.add("twice in the queue", _repeated(left))
    found.add("out of order", _disordered(left))
    return found


def chain(books: Books, inputs: Drained, results: Drained, after: Drained) -> Findings:
    """The one-commit step: a result exists iff the next exists iff the input is gone."""
    found = Findings()
    waits = {what for what, _ in inputs}
    result, following = Counter(w for w, _ in results), Counter(w for w, _ in after)
    done = set(result) | set(following)
    _common(found, books, waits | done | set(books.receipts))
    found.add("half a commit", [w for w in done if result[w] != following[w]])
    found.add("half a commit", done & waits)
    found.add("committed twice", [w for w in done if result[w] > 1 or following[w] > 1])
    found.add("confirmed and lost", books.confirmed - waits - done)
    found.add("committed and lost", set(books.settled) - done)
    found.add("twice in the queue", _repeated(inputs))
    found.add("out of order", _disordered(inputs))
    found.counts["commits"] += len(done)
    found.counts["commit-ok"] += len(books.settled)
    return found


def dying(books: Books, left: Drained, dead: Drained) -> Findings:
    """Messages that expire into another queue."""
    found = Findings()
    there = {what for what, _ in left} | {what for what, _ in dead}
    _common(found, books, there)
    found.add("confirmed and lost", books.confirmed - there)
    found.add("dead and alive", {w for w, _ in left} & {w for w, _ in dead})
    found.counts["dead letters"] += len(dead)
    found.counts["duplicate dead letters"] += len(_repeated(dead))
    return found


def _common(found: Findings, books: Books, seen: set[str]) -> None:
    found.counts["sent"] += len(books.sent)
    found.counts["confirmed"] += len(books.confirmed)
    found.counts["received"] += sum(map(len, books.receipts.values()))
    found.counts["settled"] += len(books.settled)
    found.add("damaged", [what for what in seen if what.startswith("damaged:")])
    found.add("never sent", [w for w in seen - books.sent if not w.startswith("damaged:")])


def _repeated(drained: Drained) -> set[str]:
    return {what for what, count in Counter(w for w, _ in drained).items() if count > 1}


def _disordered(drained: Drained) -> set[str]:
    """Messages that stand behind a younger one of the same publisher."""
    last: dict[str, int] = {}
    found = set()
    for what, _ in drained:
        who, _, number = what.rpartition(".")
        if number.isdigit():
            if int(number) < last.get(who, 0):
                found.add(what)
            last[who] = int(number)
    return found
