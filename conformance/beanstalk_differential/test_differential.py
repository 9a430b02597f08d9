"""The comparison as a suite: Potager with beanstalkd, a server with itself, planted differences.

What lives here: the tests over the same parts that run.py uses. What does not: the sequences and
how they are compared. Run by conformance/run.py as `beanstalk/differential`.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))

import generator  # noqa: E402
import known  # noqa: E402
from beanstalkd import Beanstalkd, PeerMissing  # noqa: E402
from harness.comparison import Comparison  # noqa: E402
from player import Side  # noqa: E402

KIND = os.environ.get("CONFORMANCE_SERVER", "potager")
PORT = int(os.environ.get("CONFORMANCE_PORT", "11300"))
SECONDS = 90.0
# So many of them are tried; more are for by hand (`run.py --seconds`).
SEQUENCES = 250
# A fixed start, so that a red run is red again.
SEED = 30_000
LENGTH = 40
# Time plays a part in some sequences: a difference counts when it shows so often.
TRIES = 3

together = functools.partial(Side, shares_server=True)


def on_one_server() -> Comparison:
    """Both sides on the server under test, apart by their names."""
    return Comparison(together, PORT, PORT, is_one_server=True)


def test_a_server_agrees_with_itself():
    """What differs between two runs on one server would be the comparison's own fault."""
    comparison = on_one_server()
    for seed in range(SEED, SEED + 12):
        found = comparison.lasting(generator.sequence(seed, LENGTH), TRIES)
        assert found is None, f"seed {seed}: {found}"


PLANTED = {
    "a release that buries": lambda one: (
        {**one, "do": "bury"} if one["do"] == "release" else one),
    "a priority that is off by one": lambda one: (
        {**one, "pri": one["pri"] ^ 1} if one["do"] == "put" else one),
    "a touch that does nothing": lambda one: (
        {**one, "do": "say", "line": "touch 0"} if one["do"] == "touch" else one),
    "a kick of one more": lambda one: (
        {**one, "line": "kick 2"} if one.get("line") == "kick 1" else one),
    "an ignore that watches": lambda one: (
        {**one, "line": "watch %s"} if one.get("line") == "ignore %s" else one),
    "a body that is cut": lambda one: (
        {**one, "body": one["body"][:-1]} if one["do"] == "put" else one),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_difference_is_found(what):
    """A comparison that sees nothing proves nothing."""
    comparison = on_one_server()
    comparison.tamper = PLANTED[what]
    for seed in range(SEED, SEED + 12):
        if comparison.play(generator.sequence(seed, LENGTH)):
            return
    raise AssertionError("not found")


def test_a_difference_is_made_short():
    """What is printed is about the difference, and ends in it when it is played again."""
    comparison = on_one_server()
    comparison.tamper = PLANTED["a release that buries"]
    seed, found = SEED, None
    while found is None:
        seed += 1
        actions = generator.sequence(seed, LENGTH)
        found = comparison.play(actions)
    shorter, last = comparison.shrink(actions, found, lambda one: False)
    assert last.action["do"] == "release"
    assert len(shorter) <= found.at + 1
    assert len(shorter) <= 8
    again = comparison.play(shorter)
    assert again is not None and again.at == len(shorter) - 1


def test_potager_answers_as_beanstalkd_does(tmp_path):
    """Every difference is a named one. The original is compared with a second one of its kind."""
    try:
        peer = Beanstalkd(tmp_path / "beanstalkd")
    except PeerMissing as missing:
        pytest.skip(str(missing))
    peer.start()
    limit_s = SECONDS if KIND == "potager" else SECONDS / 3
    try:
        comparison, seed = Comparison(Side, peer.port, PORT), SEED
        deadline = time.monotonic() + limit_s
        while seed < SEED + SEQUENCES and time.monotonic() < deadline:
            found = comparison.lasting(generator.sequence(seed, LENGTH), TRIES)
            assert found is None or known.name_of(found), (
                f"seed {seed}, action {found.at} {found.action}: {found.parts}; conformance/"
                f"beanstalk_differential/run.py --seed {seed} --sequences 1")
            seed += 1
        assert comparison.methods > 300
    finally:
        peer.kill()
