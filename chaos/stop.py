"""Orderly stops under load: every reply that is due is given, and nobody can hold the server up.

What lives here: SIGTERM under publishes and transactions, with a client that reads nothing. What
does not: stops that nobody announced (power.py, recovery.py).

Promise: P19.
"""

from __future__ import annotations

import random
import signal
import time

from rig.clients import Publisher, Worker, connect, drained
from rig.ledger import Books
from rig.node import Node
from rig.raw import fill, frames
from rig.verdict import Verdict, spread

STOPS = 12
LIMIT_S = 10.0
QUEUES = ("work", "input", "results", "next", "deaf")


def run(options, verdict: Verdict) -> None:
    """Stop again and again, then compare what is there with what was answered."""
    node = Node(options.binary, options.folder / "data", options.folder)
    clients: list = []
    took: list[float] = []
    try:
        node.start()
        with connect(node.port) as link:
            for queue in QUEUES:
                link.channel().queue_declare(queue, durable=True)
        fill(node.port, "deaf", 20_000, lambda _: b"d" * 2_000)
        given = (node.port, options.folder)
        clients = [
            Publisher("work-a", *given, "work", window=200),
            Publisher("work-b", *given, "work", window=1),
            Publisher("tx-c", *given, "input", window=20, rate=500),
            Worker("tx-d", *given, "input", "results", "next"),
        ]
        for client in clients:
            client.start()
        for number in range(STOPS):
            time.sleep(random.uniform(0.3, 0.8))
            took.append(stopped(node, verdict, is_deaf=number % 3 == 2))
            node.start()
        for client in clients:
            client.finish()
        compare(node, options.folder, verdict)
        verdict.figure("orderly stops", STOPS)
        verdict.figure("stopped after", spread(took))
    finally:
        for client in clients:
            client.told.set()
        node.kill()


def stopped(node: Node, verdict: Verdict, is_deaf: bool) -> float:
    """One SIGTERM; with `is_deaf`, a consumer that never reads is owed megabytes."""
    deaf = None
    if is_deaf:
        deaf = frames.Raw(node.port).to_channel()
        deaf.send(frames.consume("deaf"))
        time.sleep(0.3)
    began = time.monotonic()
    node.process.send_signal(signal.SIGTERM)
    code = node.wait(LIMIT_S + 5)
    took = time.monotonic() - began
    how = "with a client that does not read" if is_deaf else "under load"
    verdict.claim(code == 0 and took <= LIMIT_S, f"stops {how} within {LIMIT_S:g} s",
                  f"code {code} after {took:.1f} s")
    if deaf:
        deaf.close()
    return took


def compare(node: Node, folder, verdict: Verdict) -> None:
    """Whatever the server took was answered before it went."""
    left = {queue: {what for what, _ in drained(node.port, queue)}
            for queue in QUEUES if queue != "deaf"}
    books, chain = Books.read(folder, "work-*.ledger"), Books.read(folder, "tx-*.ledger")
    verdict.none_of(left["work"] - books.confirmed, "no message was taken and not confirmed")
    verdict.none_of(books.confirmed - left["work"], "no message was confirmed and lost")
    done = left["results"]
    verdict.none_of(done ^ left["next"], "no commit was halved")
    verdict.none_of(done - set(chain.settled), "no commit was made and not answered")
    verdict.none_of(set(chain.settled) - done, "no commit was answered and lost")
    verdict.none_of(chain.confirmed - left["input"] - done, "no input was confirmed and lost")
    verdict.claim(len(books.confirmed) > 1_000 and len(done) > 100, "the load was a load",
                  (len(books.confirmed), len(done)))
    verdict.figure("confirmed", len(books.confirmed))
    verdict.figure("commits", len(done))
