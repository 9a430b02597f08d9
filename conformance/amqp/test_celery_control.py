"""Celery, unmodified: remote control, revocation and events.

What lives here: everything that travels over celery.pidbox and celeryev. What does not: tasks
themselves (test_celery_tasks.py).
"""

from __future__ import annotations

import pytest
from celery.exceptions import TaskRevokedError

from support import until

LIMIT_S = 30
REPLY_S = 3.0


@pytest.fixture
def garden(plant):
    """A garden with one worker of two processes."""
    one = plant()
    one.first = one.worker()
    return one


def inspect(garden):
    """Inspection of this test's worker only."""
    return garden.app.control.inspect([garden.first.node], timeout=REPLY_S)


def reply(garden, answers):
    """The one answer of a broadcast."""
    (answer,) = answers
    assert "ok" in answer[garden.first.node], answer
    return answer[garden.first.node]["ok"]


def test_inspect(garden):
    node = garden.first.node
    assert inspect(garden).ping() == {node: {"ok": "pong"}}
    stats = inspect(garden).stats()[node]
    assert stats["pool"]["max-concurrency"] == 2
    assert stats["broker"]["transport"] == "amqp"
    assert "garden.add" in inspect(garden).registered()[node]
    assert [queue["name"] for queue in inspect(garden).active_queues()[node]] == [garden.queue]
    garden.task("doze").delay(8, "long")
    garden.await_notes("begin", 1)
    assert [task["name"] for task in inspect(garden).active()[node]] == ["garden.doze"]
    garden.task("mark").apply_async(("later",), countdown=60)
    until(lambda: inspect(garden).scheduled()[node], LIMIT_S)
    assert inspect(garden).reserved()[node] == []


def test_inspect_from_the_command_line(garden):
    status = garden.process("inspect", "ping", "-d", garden.first.node, "-t", "5")
    assert status.process.wait(LIMIT_S) == 0, status.text
    assert "pong" in status.text


def test_rate_limit(garden):
    mark = garden.task("mark")
    said = garden.app.control.rate_limit(
        "garden.mark", "2/s", destination=[garden.first.node], reply=True, timeout=REPLY_S)
    assert "rate limit set" in reply(garden, said)
    for number in range(5):
        mark.apply_async((number,), ignore_result=True)
    at = [float(line[2]) for line in garden.await_notes("mark", 5)]
    assert max(at) - min(at) >= 1.5


def test_pool_grow_and_shrink(garden):
    node = garden.first.node
    said = garden.app.control.pool_grow(1, destination=[node], reply=True, timeout=REPLY_S)
    assert "grow" in reply(garden, said)
    until(lambda: len(inspect(garden).stats()[node]["pool"]["processes"]) == 3, LIMIT_S)
    doze = garden.task("doze")
    for number in range(3):
        doze.apply_async((4, f"d{number}"), ignore_result=True)
    garden.await_notes("begin", 3, 6)
    assert garden.notes("end") == [], "the third ran beside the other two"


def test_add_and_cancel_consumer(garden, name):
    node, extra = garden.first.node, name("extra")
    said = garden.app.control.add_consumer(extra, destination=[node], reply=True, timeout=REPLY_S)
    assert extra in reply(garden, said)
    assert garden.task("add").apply_async((1, 2), queue=extra).get(timeout=LIMIT_S) == 3
    garden.app.control.cancel_consumer(extra, destination=[node], reply=True, timeout=REPLY_S)
    until(lambda: extra not in [queue["name"] for queue in
                                inspect(garden).active_queues()[node]], LIMIT_S)


def test_revoke_a_queued_task(plant):
    garden = plant()
    garden.first = garden.worker(count=1)
    garden.task("doze").delay(3, "block")
    garden.await_notes("begin", 1)
    doomed = garden.task("mark").delay("never")
    said = garden.app.control.revoke(
        doomed.id, destination=[garden.first.node], reply=True, timeout=REPLY_S)
    assert "flagged as revoked" in reply(garden, said)
    with pytest.raises(TaskRevokedError):
        doomed.get(timeout=LIMIT_S)
    assert garden.notes("mark") == []


def test_revoke_and_terminate_a_running_task(garden):
    running = garden.task("doze").delay(60, "endless")
    garden.await_notes("begin", 1)
    running.revoke(terminate=True, signal="SIGKILL")
    with pytest.raises(TaskRevokedError):
        running.get(timeout=LIMIT_S)
    assert garden.notes("end") == []
    assert garden.task("add").delay(2, 2).get(timeout=LIMIT_S) == 4


def test_shutdown_by_broadcast(garden):
    garden.app.control.shutdown(destination=[garden.first.node])
    assert garden.first.process.wait(LIMIT_S) == 0


def test_two_workers_answer_a_broadcast(garden):
    second = garden.worker()
    nodes = {garden.first.node, second.node}
    answers = garden.app.control.ping(timeout=REPLY_S, destination=list(nodes))
    assert {node for answer in answers for node in answer} == nodes


def test_a_worker_restarts_under_its_name(plant):
    garden = plant()
    node = f"{garden.name('same')}@local"
    for _ in range(3):
        worker = garden.worker("-n", node)
        worker.node = node
        assert garden.task("add").delay(1, 1).get(timeout=LIMIT_S) == 2
        assert garden.app.control.inspect([node], timeout=REPLY_S).ping()
        worker.kill()


# What `celery events` calls worker-online is "started".
EVENTS = ("] started", "] heartbeat", "task sent", "task received", "task started",
          "task succeeded", "task failed", "task retried", "task revoked")


def test_events_dump_sees_every_state(plant):
    garden = plant(task_send_sent_event=True, worker_send_task_events=True)
    dump = garden.process("events", "--dump")
    dump.await_text("evdump")
    garden.first = garden.worker("-E")
    garden.task("add").delay(1, 2).get(timeout=LIMIT_S)
    with pytest.raises(ValueError):
        garden.task("fail").delay("seen").get(timeout=LIMIT_S)
    garden.task("flaky").delay(1).get(timeout=LIMIT_S)
    running = garden.task("doze").delay(60, "endless")
    garden.await_notes("begin", 1)
    running.revoke(terminate=True)
    try:
        until(lambda: not _missing(dump), LIMIT_S, "every event in the dump")
    except AssertionError:
        raise AssertionError(f"missing {_missing(dump)} in\n{dump.text[-3000:]}") from None


def _missing(dump) -> list[str]:
    text = dump.text.lower()
    return [event for event in EVENTS
            if event not in text and event.replace(" ", "-") not in text]
