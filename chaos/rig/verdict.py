"""What a part found: claims, figures, or the reason why it could not be asked.

What lives here: printing and the machine-readable report. What does not: any claim. Used by
every part and by run.py.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

SHOWN_IDS = 8


class Skipped(Exception):
    """The machine forbids the method; the text says what is missing."""


class Verdict:
    """The claims and figures of one part."""

    def __init__(self, part: str) -> None:
        """Nothing is claimed yet."""
        self.part = part
        self.began = time.monotonic()
        self.claims: list[tuple[bool, str]] = []
        self.skipped: list[str] = []
        self.figures: dict[str, object] = {}

    @property
    def is_good(self) -> bool:
        """Whether every claim held."""
        return all(held for held, _ in self.claims)

    def claim(self, held: bool, text: str, detail: object = "") -> bool:
        """Record and print one claim; `detail` is shown when it does not hold."""
        line = text if held or not detail else f"{text}: {detail}"
        self.claims.append((held, line))
        print(f"  {'ok    ' if held else 'FAILED'} {line}", flush=True)
        return held

    def none_of(self, ids, text: str) -> bool:
        """Claim that a collection is empty; shows the first few otherwise."""
        some = sorted(ids, key=str)[:SHOWN_IDS]
        return self.claim(not ids, text, f"{len(ids)}, e.g. {some}")

    def skip(self, what: str) -> None:
        """Say that a method could not be used here."""
        self.skipped.append(what)
        print(f"  skipped: {what}", flush=True)

    def figure(self, name: str, value: object) -> None:
        """Record and print one figure."""
        self.figures[name] = value
        print(f"         {name}: {value}", flush=True)

    def note(self, text: str) -> None:
        """Print progress; not part of the report."""
        print(f"         {text}", flush=True)

    def write(self, folder: Path) -> None:
        """Leave the report where other programs find it."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.part}.json").write_text(json.dumps({
            "part": self.part, "good": self.is_good,
            "seconds": round(time.monotonic() - self.began, 1),
            "claims": [{"held": held, "claim": text} for held, text in self.claims],
            "skipped": self.skipped, "figures": self.figures,
        }, indent=1) + "\n")


def spread(seconds: list[float]) -> str:
    """Median and largest of a list of durations, in milliseconds."""
    if not seconds:
        return "none"
    ordered = sorted(seconds)
    middle = ordered[len(ordered) // 2]
    return f"median {middle * 1e3:.0f} ms, at most {ordered[-1] * 1e3:.0f} ms"
