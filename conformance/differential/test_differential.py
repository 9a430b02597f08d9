"""The comparison as a suite: Potager with RabbitMQ, a server with itself, and a planted difference.

What lives here: three tests over the same parts that run.py uses. What does not: the sequences and
how they are compared. Run by conformance/run.py as `amqp/differential`.
"""

from __future__ import annotations

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
from harness.comparison import Comparison  # noqa: E402
from player import Side  # noqa: E402
from rabbitmq import PeerMissing, Rabbit  # noqa: E402

KIND = os.environ.get("CONFORMANCE_SERVER", "potager")
PORT = int(os.environ.get("CONFORMANCE_PORT", "5672"))
SECONDS = 100.0
# So many of them are tried; more are for by hand (`run.py --seconds`).
SEQUENCES = 250
# A fixed start, so that a red run is red again.
SEED = 20_000


def isolated(seed: int) -> list[dict]:
    """A sequence without built-in exchanges: on one server those would join its two sides."""
    def own(value):
        if isinstance(value, list):
            return [own(item) for item in value]
        return "e1" if isinstance(value, str) and value.startswith("amq.") else value

    return [{name: own(value) for name, value in action.items()}
            for action in generator.sequence(seed, 30)]


def test_a_server_agrees_with_itself():
    """What differs between two runs on one server would be the comparison's own fault."""
    for seed in range(SEED, SEED + 8):
        found = Comparison(Side, PORT, PORT, is_one_server=True).play(isolated(seed))
        assert found is None, f"seed {seed}: {found}"


def test_a_planted_difference_is_found():
    """A side that gives back what it should acknowledge is caught."""
    comparison = Comparison(Side, PORT, PORT, is_one_server=True)
    comparison.tamper = lambda action: (
        {**action, "do": "reject", "requeue": True} if action["do"] == "ack" else action)
    found = [comparison.play(isolated(seed)) for seed in range(SEED, SEED + 12)]
    assert any(found), "a comparison that sees nothing proves nothing"


def test_potager_answers_as_rabbitmq_does(tmp_path):
    """Every difference is a named one."""
    if KIND != "potager":
        pytest.skip("the original needs no comparison with itself")
    try:
        peer = Rabbit(tmp_path / "rabbitmq")
    except PeerMissing as missing:
        pytest.skip(str(missing))
    peer.start()
    try:
        comparison, seed = Comparison(Side, peer.port, PORT), SEED
        deadline = time.monotonic() + SECONDS
        while seed < SEED + SEQUENCES and time.monotonic() < deadline:
            actions = generator.sequence(seed, 40)
            found = comparison.play(actions)
            assert found is None or known.name_of(found), (
                f"seed {seed}, action {found.at} {found.action}: {found.parts}; "
                f"conformance/differential/run.py --seed {seed} --sequences 1")
            seed += 1
        assert comparison.methods > 300
    finally:
        peer.kill()
