"""A message that kills whoever takes it ends among the dead letters, through crashes of the server.

What lives here: workers that really die, and the count of their deaths. What does not: the limits
that clients set themselves (conformance/amqp/test_pika_queues.py).

Promise: P6.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

from rig.clients import PERSISTENT, connect, drained
from rig.node import Node
from rig.verdict import Verdict

LIMIT_DEFAULT = 20
GOOD = 50
ATTEMPTS_MAX = 60
SETTLE_S = 0.1


def run(options, verdict: Verdict) -> None:
    """With the default limit of a quorum queue, and with one that is asked for."""
    node = Node(options.binary, options.folder / "data", options.folder)
    try:
        node.start()
        story(node, verdict, "quorum", {"x-queue-type": "quorum"}, LIMIT_DEFAULT)
        story(node, verdict, "classic", {"x-delivery-limit": 5}, 5)
    finally:
        node.kill()


def story(node: Node, verdict: Verdict, name: str, arguments: dict, limit: int) -> None:
    """One queue with a poison message in the middle of good ones."""
    grave = f"{name}-grave"
    with connect(node.port) as link:
        channel = link.channel()
        channel.queue_declare(grave, durable=True)
        channel.queue_declare(name, durable=True, arguments={
            **arguments, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave})
        channel.confirm_delivery()
        for number in range(GOOD):
            message = b"poison" if number == GOOD // 2 else b"good"
            channel.basic_publish("", name, message, PERSISTENT)
    deaths = good = 0
    for attempt in range(ATTEMPTS_MAX):
        done = multiprocessing.Queue()
        worker = multiprocessing.Process(target=work, args=(node.port, name, done), daemon=True)
        worker.start()
        worker.join(20)
        good += done.get(timeout=5)
        deaths += worker.exitcode == -signal.SIGKILL
        if worker.exitcode == 0:
            break
        if attempt % 7 == 3:
            # What came back is counted in the log within milliseconds; nobody waits for it.
            time.sleep(SETTLE_S)
            node.kill()
            node.start()
    verdict.claim(deaths == limit + 1, f"{name}: it killed {limit + 1} workers, then no more",
                  deaths)
    verdict.claim(good == GOOD - 1, f"{name}: every other message was worked on", good)
    dead = drained_bodies(node.port, grave)
    verdict.claim(dead == [b"poison"], f"{name}: it is the only dead letter", dead)
    verdict.claim(not drained(node.port, name), f"{name}: the queue is empty")


def work(port: int, queue: str, done) -> None:
    """Take until nothing comes; the poison kills this process in the middle of its work."""
    count = 0
    with connect(port) as link:
        channel = link.channel()
        channel.basic_qos(prefetch_count=1)
        for method, _, message in channel.consume(queue, inactivity_timeout=0.3):
            if method is None:
                break
            if message == b"poison":
                done.put(count)
                done.close()
                done.join_thread()
                os.kill(os.getpid(), signal.SIGKILL)
            channel.basic_ack(method.delivery_tag)
            channel.queue_declare(queue, passive=True)
            count += 1
        channel.cancel()
    done.put(count)


def drained_bodies(port: int, queue: str) -> list[bytes]:
    """The bodies in a short queue."""
    found = []
    with connect(port) as link:
        channel = link.channel()
        while (one := channel.basic_get(queue, auto_ack=True))[0] is not None:
            found.append(one[2])
    return found
