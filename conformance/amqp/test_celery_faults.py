"""Celery, unmodified: workers and servers that are killed.

What lives here: `kill -9` of a worker with late acknowledgement, of the server under load, and
reconnects. What does not: the ledger of a bare AMQP client (test_ledger.py).
"""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from support import until

AT_ONCE_S = 3.0
TASKS = 800
SERVER_KILLS = 2


# Promise: P3.
@pytest.mark.parametrize("victim", ["group", "main process"])
def test_late_ack_task_of_a_killed_worker_runs_elsewhere_at_once(plant, victim):
    garden = plant(task_acks_late=True)
    first = garden.worker(count=1)
    garden.task("late").delay(60, "job")
    begun = garden.await_notes("begin", 1)[0]
    second = garden.worker(count=1)
    killed = time.time()
    if victim == "group":
        first.kill()
    else:
        os.kill(first.process.pid, signal.SIGKILL)
    begins = garden.await_notes("begin", 2, AT_ONCE_S + 5)
    assert begins[1][3] == str(second.process.pid) != begun[3]
    assert float(begins[1][4]) - killed < AT_ONCE_S


def test_early_ack_task_of_a_killed_worker_is_not_run_again(plant):
    garden = plant()
    first = garden.worker(count=1)
    garden.task("doze").apply_async((60, "once"), ignore_result=True)
    garden.await_notes("begin", 1)
    first.kill()
    garden.worker(count=1)
    garden.task("mark").delay("after").get(timeout=30)
    assert len(garden.notes("begin")) == 1


@pytest.mark.owns_server
def test_a_worker_waits_for_a_server_that_is_not_there_yet(plant, own_server):
    server = own_server()
    server.kill()
    garden = plant(server.port)
    worker = garden.worker(await_ready=False)
    worker.await_text("Trying again")
    server.start()
    worker.await_text(" ready.")
    assert garden.task("add").delay(1, 2).get(timeout=30) == 3


class Publisher(threading.Thread):
    """Publishes marks with confirms; remembers which were confirmed."""

    def __init__(self, garden) -> None:
        """Starts nothing yet."""
        super().__init__(daemon=True)
        self.garden = garden
        self.confirmed: list[str] = []

    def run(self) -> None:
        """Publish all; a failed publish is tried anew under another name."""
        mark = self.garden.task("mark")
        number = 0
        while len(self.confirmed) < TASKS:
            number += 1
            word = f"job{number}"
            try:
                mark.apply_async((word,), retry=False, ignore_result=True)
            except Exception:  # noqa: BLE001 - any failure means: not confirmed
                time.sleep(0.05)
                continue
            self.confirmed.append(word)


# Promise: P1.
@pytest.mark.owns_server
@pytest.mark.timeout(300)
def test_server_killed_under_load(plant, own_server):
    server = own_server()
    garden = plant(
        server.port, broker_transport_options={"confirm_publish": True},
        task_acks_late=True, broker_connection_max_retries=None, broker_pool_limit=1,
        worker_cancel_long_running_tasks_on_connection_loss=False, worker_prefetch_multiplier=4,
    )
    workers = [garden.worker(count=2) for _ in range(2)]
    publisher = Publisher(garden)
    publisher.start()
    for kill in range(SERVER_KILLS):
        aim = (kill + 1) * TASKS // (SERVER_KILLS + 1)
        until(lambda aim=aim: len(publisher.confirmed) >= aim, 90, f"{aim} confirmed")
        server.kill()
        server.start()
    publisher.join(120)
    assert len(publisher.confirmed) == TASKS

    def lost():
        return set(publisher.confirmed) - {line[1] for line in garden.notes("mark")}

    try:
        until(lambda: not lost(), 90, "every confirmed task executed", 0.2)
    except AssertionError:
        raise AssertionError(f"{len(lost())} confirmed tasks were never run: "
                             f"{sorted(lost())[:5]}") from None
    for worker in workers:
        assert worker.process.poll() is None, "a worker ended instead of reconnecting"
    runs = [line[1] for line in garden.notes("mark")]
    twice = len(runs) - len(set(runs))
    # At least once: what was in flight at a kill may run twice, and no more than that.
    assert twice <= SERVER_KILLS * 2 * (2 * 4 + 2)


@pytest.mark.owns_server
def test_results_after_a_server_restart(plant, own_server):
    server = own_server()
    garden = plant(server.port)
    worker = garden.worker()
    assert garden.task("add").delay(1, 1).get(timeout=30) == 2
    server.kill()
    server.start()
    worker.await_text("Connected to", times=2)
    fresh = plant(server.port, task_default_queue=garden.queue)
    assert fresh.task("add").delay(2, 2).get(timeout=40) == 4
