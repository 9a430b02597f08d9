"""Celery, unmodified: tasks, results, failures, retries, time, routing, canvas.

What lives here: what an application sees of its tasks. What does not: remote control and events
(test_celery_control.py), bodies and pools (test_celery_bodies.py), kills
(test_celery_faults.py).
"""

from __future__ import annotations

import time

import pytest
from celery import chain, group
from celery.exceptions import SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded
from kombu import Exchange, Queue

from support import until

LIMIT_S = 30


def test_results_over_rpc(plant):
    garden = plant()
    garden.worker()
    pending = [garden.task("add").delay(number, number) for number in range(100)]
    assert [result.get(timeout=LIMIT_S) for result in pending] == [2 * n for n in range(100)]
    assert all(result.state == "SUCCESS" for result in pending)


def test_failure_arrives_with_type_and_traceback(plant):
    garden = plant()
    garden.worker()
    result = garden.task("fail").delay("boom")
    with pytest.raises(ValueError) as raised:
        result.get(timeout=LIMIT_S)
    assert raised.value.args == ("boom", 7)
    assert result.state == "FAILURE"
    assert "ValueError: ('boom', 7)" in result.traceback and "garden.py" in result.traceback
    assert garden.await_notes("on_failure", 1) == [
        ["on_failure", result.id, "ValueError", "boom", "7"]]


def test_autoretry_with_backoff(plant):
    garden = plant()
    garden.worker()
    assert garden.task("flaky").delay(2).get(timeout=LIMIT_S) == 2
    tries = garden.notes("try")
    assert [line[1] for line in tries] == ["0", "1", "2"]
    at = [float(line[2]) for line in tries]
    assert at[1] - at[0] >= 0.9 and at[2] - at[1] >= 1.9


def test_eta_while_prefetch_is_full(plant):
    garden = plant()
    garden.worker(count=1)
    mark = garden.task("mark")
    due = time.time() + 8
    later = [mark.apply_async((f"later{n}",), countdown=8) for n in range(6)]
    now = [mark.delay(f"now{n}") for n in range(6)]
    for result in now:
        result.get(timeout=LIMIT_S)
    assert time.time() < due, "plain tasks waited behind tasks with an ETA"
    for result in later:
        result.get(timeout=LIMIT_S)
    marks = garden.notes("mark")
    assert [line[1][:3] for line in marks] == ["now"] * 6 + ["lat"] * 6
    assert all(float(line[2]) >= due - 0.2 for line in marks[6:])
    assert len({line[1] for line in marks}) == 12


def test_expired_in_the_queue_is_not_run(plant):
    garden = plant()
    mark = garden.task("mark")
    mark.apply_async(("stale",), expires=0.3)
    kept = mark.apply_async(("fresh",), expires=60)
    time.sleep(0.5)
    garden.worker()
    assert kept.get(timeout=LIMIT_S) == "fresh"
    assert [line[1] for line in garden.notes("mark")] == ["fresh"]


def test_expired_in_the_worker_is_revoked(plant):
    garden = plant()
    garden.worker()
    result = garden.task("mark").apply_async(("never",), countdown=2, expires=1)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=LIMIT_S)
    assert garden.notes("mark") == []


def test_routing_to_several_queues_with_priorities(plant, name):
    exchange = Exchange(name("tasks"), type="direct")
    queues = {kind: name(kind) for kind in ("seeds", "soil")}
    garden = plant(task_acks_late=True)
    garden.app.conf.task_queues = [
        Queue(queue, exchange, routing_key=kind, queue_arguments={"x-max-priority": 10})
        for kind, queue in queues.items()
    ]
    mark = garden.task("mark")
    results = []
    with garden.app.connection_for_write() as connection:
        for queue in garden.app.conf.task_queues:
            queue(connection.default_channel).declare()
    for number, priority in enumerate((0, 5, 9, 1, 9)):
        results.append(mark.apply_async((f"seed{number}",), exchange=exchange, priority=priority,
                                        routing_key="seeds"))
    results.append(mark.apply_async(("soil",), exchange=exchange, routing_key="soil"))
    # The worker declares the same queues, with the same arguments, through its -Q names.
    garden.settings["task_queue_max_priority"] = 10
    garden.settings["task_create_missing_queues"] = True
    first = garden.worker("-Q", queues["seeds"], count=1, pool="solo")
    for result in results[:5]:
        result.get(timeout=LIMIT_S)
    order = [line[1] for line in garden.notes("mark")]
    assert order == ["seed2", "seed4", "seed1", "seed3", "seed0"]
    assert not results[5].ready()
    first.stop()
    garden.worker("-Q", queues["soil"], count=1)
    assert results[5].get(timeout=LIMIT_S) == "soil"


def test_time_limits(plant):
    garden = plant()
    garden.worker()
    doze = garden.task("doze")
    soft = doze.apply_async((20, "soft"), soft_time_limit=1)
    with pytest.raises(SoftTimeLimitExceeded):
        soft.get(timeout=LIMIT_S)
    assert garden.notes("soft") == [["soft", "soft"]]
    hard = doze.apply_async((20, "hard"), time_limit=1)
    with pytest.raises(TimeLimitExceeded):
        hard.get(timeout=LIMIT_S)
    assert garden.task("add").delay(1, 1).get(timeout=LIMIT_S) == 2


def test_chain(plant):
    garden = plant()
    garden.worker()
    add = garden.task("add")
    result = chain(add.s(1, 2), add.s(4), add.s(8))()
    assert result.get(timeout=LIMIT_S) == 15
    assert result.parent.get(timeout=LIMIT_S) == 7


def test_group(plant):
    garden = plant()
    garden.worker()
    add = garden.task("add")
    assert group(add.s(n, n) for n in range(20))().get(timeout=LIMIT_S) == [
        2 * n for n in range(20)]


def test_failing_chain_stops(plant):
    garden = plant()
    garden.worker()
    result = chain(garden.task("fail").s("early"), garden.task("mark").s())()
    with pytest.raises(ValueError):
        result.parent.get(timeout=LIMIT_S)
    assert garden.notes("mark") == []


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
def test_native_delayed_delivery(plant, name, queue_type):
    garden = plant(
        task_default_queue_type="quorum", task_default_exchange_type="topic",
        task_default_exchange=name("exchange"), task_default_routing_key=name("key"),
        broker_native_delayed_delivery_queue_type=queue_type,
        broker_transport_options={"confirm_publish": True},
    )
    if queue_type == "quorum":
        _drop_ladder(garden)
    worker = garden.worker()
    sent = time.time()
    result = garden.task("mark").apply_async(("delayed",), countdown=3)
    prompt = garden.task("mark").delay("prompt")
    assert prompt.get(timeout=LIMIT_S) == "prompt"
    scheduled = garden.app.control.inspect([worker.node], timeout=1).scheduled()
    assert scheduled == {worker.node: []}, "the broker holds the task, not the worker"
    assert result.get(timeout=LIMIT_S) == "delayed"
    at = {line[1]: float(line[2]) for line in garden.notes("mark")}
    assert 2.9 <= at["delayed"] - sent < 8
    worker.stop()
    _drop_ladder(garden)


def _drop_ladder(garden) -> None:
    """Delete the ladder's exchanges and queues, whose arguments differ from test to test."""
    with garden.app.connection_for_write() as connection:
        channel = connection.default_channel
        for level in range(28):
            channel.queue_delete(f"celery_delayed_{level}")
            channel.exchange_delete(f"celery_delayed_{level}")
        channel.exchange_delete("celery_delayed_delivery")


def test_forgotten_results_do_not_pile_up(plant):
    garden = plant()
    garden.worker()
    mark = garden.task("mark")
    for number in range(50):
        mark.apply_async((number,), ignore_result=True)
    garden.await_notes("mark", 50)
    with garden.app.connection_for_write() as connection:
        channel = connection.default_channel
        until(lambda: channel.queue_declare(garden.queue, passive=True).message_count == 0)
