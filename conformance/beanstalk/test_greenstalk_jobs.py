"""greenstalk, unmodified: a job's life from put to delete.

What lives here: put, reserve, reserve-job, delete, release, bury, kick, kick-job, touch, peek. What
does not: time (test_greenstalk_time.py), tubes (test_greenstalk_tubes.py), forms (test_wire.py).
"""

from __future__ import annotations

import threading

import greenstalk
import pytest
from greenstalk import NotFoundError, TimedOutError

MISSING = 2**64 - 1


def bodies(client, count: int) -> list[bytes]:
    """Reserve and delete so many jobs."""
    found = []
    for _ in range(count):
        job = client.reserve(timeout=5)
        found.append(job.body)
        client.delete(job)
    return found


def is_empty(client) -> bool:
    """Whether nothing can be reserved now."""
    try:
        client.release(client.reserve(timeout=0))
        return False
    except TimedOutError:
        return True


def test_put_reserve_delete(client):
    number = client.put(b"hello")
    job = client.reserve()
    assert (job.id, job.body) == (number, b"hello")
    client.delete(job)
    with pytest.raises(NotFoundError):
        client.peek(number)


def test_ids_rise(client):
    numbers = [client.put(b"x") for _ in range(20)]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("body", [
    b"", b"\r\n", b"\x00", bytes(range(256)), b"delete 1\r\n", b"x" * 65535,
], ids=["empty", "line end", "NUL", "all bytes", "a command", "largest"])
def test_bodies_come_back_as_they_were(client, body):
    client.put(body)
    job = client.reserve(timeout=5)
    assert job.body == body
    assert client.peek(job.id).body == body
    client.delete(job)


def test_text_bodies(connect):
    client = connect(encoding="utf-8")
    client.put("grün \u2713")
    assert client.reserve(timeout=5).body == "grün \u2713"


def test_too_big(client):
    with pytest.raises(greenstalk.JobTooBigError):
        client.put(b"x" * 65536)
    client.put(b"small")
    assert bodies(client, 1) == [b"small"]


def test_smallest_priority_first_then_smallest_id(client):
    for body, priority in ((b"c", 7), (b"d", 7), (b"a", 0), (b"e", 2**32 - 1), (b"b", 6)):
        client.put(body, priority=priority)
    assert bodies(client, 5) == [b"a", b"b", b"c", b"d", b"e"]


def test_order_holds_over_all_watched_tubes(connect, name):
    tubes = [name() for _ in range(3)]
    for number, (tube, priority) in enumerate([(0, 5), (1, 3), (2, 3), (0, 3), (1, 9), (2, 0)]):
        connect(use=tubes[tube]).put(b"%d" % number, priority=priority)
    assert bodies(connect(watch=tubes), 6) == [b"5", b"1", b"2", b"3", b"0", b"4"]


def test_a_thousand_jobs_in_order(connect):
    client = connect()
    priorities = [(number * 7919) % 101 for number in range(1000)]
    numbers = [client.put(b"%d" % at, priority=p) for at, p in enumerate(priorities)]
    order = sorted(range(1000), key=lambda at: (priorities[at], numbers[at]))
    assert bodies(client, 1000) == [b"%d" % at for at in order]


def test_unwatched_tubes_are_left_alone(connect, name):
    connect(use=name("other")).put(b"not mine")
    assert is_empty(connect())


def test_reserve_waits_for_a_put(connect):
    worker, producer = connect(), connect()
    timer = threading.Timer(0.2, lambda: producer.put(b"late"))
    timer.start()
    assert worker.reserve().body == b"late"
    timer.join()


def test_two_workers_get_different_jobs(connect):
    producer, workers = connect(), [connect(), connect()]
    for number in range(40):
        producer.put(b"%d" % number)
    seen = []
    for _ in range(20):
        for worker in workers:
            job = worker.reserve(timeout=5)
            seen.append(int(job.body))
            worker.delete(job)
    assert seen == list(range(40))


def test_up_to_three_waiting_workers_are_served_in_order(raw, tube):
    # With more the original's order is its own.
    workers = [raw() for _ in range(3)]
    for worker in workers:
        worker.ask(b"watch %b" % tube.encode())
        worker.ask(b"ignore default")
        worker.send(b"reserve\r\n")
        assert worker.says_nothing(0.05)
    producer = raw()
    producer.ask(b"use %b" % tube.encode())
    for at, worker in enumerate(workers):
        number = producer.put(b"%d" % at)
        assert worker.answer() == b"RESERVED %d 1\r\n%d\r\n" % (number, at)


def test_only_the_owner_settles(connect):
    owner, other = connect(), connect()
    number = other.put(b"x")
    job = owner.reserve(timeout=5)
    for act in (other.delete, other.release, other.bury, other.touch, other.kick_job):
        with pytest.raises(NotFoundError):
            act(job)
    with pytest.raises(NotFoundError):
        other.reserve_job(number)
    owner.delete(job)


@pytest.mark.parametrize("state", ["ready", "delayed", "buried"])
def test_anybody_deletes_what_is_not_reserved(connect, state):
    client, other = connect(), connect()
    number = client.put(b"x", delay=100 if state == "delayed" else 0)
    if state == "buried":
        client.bury(client.reserve(timeout=5))
    assert other.stats_job(number)["state"] == state
    other.delete(number)
    with pytest.raises(NotFoundError):
        other.delete(number)


def test_release_with_another_priority(client):
    client.put(b"a", priority=1)
    client.put(b"b", priority=2)
    client.release(client.reserve(timeout=5), priority=3)
    assert bodies(client, 2) == [b"b", b"a"]


def test_a_released_job_keeps_its_place_by_id(client):
    client.put(b"a", priority=1)
    client.put(b"b", priority=1)
    client.release(client.reserve(timeout=5), priority=1)
    assert bodies(client, 2) == [b"a", b"b"]


def test_release_counts_and_shows(client):
    number = client.put(b"x", priority=9)
    client.release(client.reserve(timeout=5), priority=4, delay=100)
    stats = client.stats_job(number)
    assert (stats["state"], stats["pri"], stats["delay"], stats["releases"]) == (
        "delayed", 4, 100, 1)
    assert client.peek_delayed().id == number


def test_bury_and_kick_are_in_order_of_burying(client):
    for body in (b"a", b"b", b"c"):
        client.put(body, priority=5)
    jobs = [client.reserve(timeout=5) for _ in range(3)]
    for at, priority in ((1, 900), (2, 0), (0, 5)):
        client.bury(jobs[at], priority=priority)
    assert client.peek_buried().body == b"b"
    assert client.kick(1) == 1
    assert client.peek_buried().body == b"c"
    assert client.reserve(timeout=5).body == b"b"
    assert client.kick(10) == 2
    assert bodies(client, 2) == [b"c", b"a"]


def test_kick_takes_buried_ones_and_leaves_delayed_ones(client):
    client.put(b"later", delay=100)
    client.put(b"soon", delay=50)
    client.put(b"x")
    client.bury(client.reserve(timeout=5))
    assert client.kick(10) == 1
    assert client.kick(1) == 1
    assert client.peek_delayed().body == b"later"
    assert client.kick(0) == 0
    assert client.kick(10) == 1
    assert client.kick(10) == 0


def test_kick_is_about_the_used_tube(connect, name):
    client = connect(use=name("elsewhere"))
    number = client.put(b"x", delay=100)
    client.use(name("here"))
    assert client.kick(10) == 0
    client.kick_job(number)
    assert client.stats_job(number)["state"] == "ready"


@pytest.mark.parametrize("state", ["delayed", "buried"])
def test_kick_job(client, state):
    number = client.put(b"x", delay=100 if state == "delayed" else 0)
    if state == "buried":
        client.bury(client.reserve(timeout=5))
    client.kick_job(number)
    stats = client.stats_job(number)
    assert (stats["state"], stats["kicks"]) == ("ready", 1)
    with pytest.raises(NotFoundError):
        client.kick_job(number)


def test_reserve_job_from_each_state(connect, name):
    client = connect(use=name("unwatched"))
    ready, delayed, buried = client.put(b"r"), client.put(b"d", delay=100), client.put(b"b")
    client.bury(client.reserve_job(buried))
    for number, body in ((ready, b"r"), (delayed, b"d"), (buried, b"b")):
        job = client.reserve_job(number)
        assert (job.id, job.body) == (number, body)
        assert client.stats_job(number)["state"] == "reserved"
        with pytest.raises(NotFoundError):
            client.reserve_job(number)
    assert client.stats_job(buried)["reserves"] == 2


def test_peeks(client):
    for peek in (client.peek_ready, client.peek_delayed, client.peek_buried):
        with pytest.raises(NotFoundError):
            peek()
    client.put(b"second", priority=5)
    client.put(b"first", priority=4)
    client.put(b"far", delay=200)
    client.put(b"near", delay=100)
    assert client.peek_ready().body == b"first"
    assert client.peek_delayed().body == b"near"
    job = client.reserve(timeout=5)
    assert client.peek(job.id).body == b"first"
    assert client.peek_ready().body == b"second"


def test_what_is_missing(client):
    for act in (client.delete, client.reserve_job, client.peek, client.kick_job, client.stats_job):
        with pytest.raises(NotFoundError):
            act(MISSING)
    job = greenstalk.Job(MISSING, b"")
    for act in (client.release, client.bury, client.touch):
        with pytest.raises(NotFoundError):
            act(job)


@pytest.mark.parametrize("how", ["close", "quit"])
def test_a_connections_end_returns_its_jobs(connect, how):
    worker, other = connect(), connect()
    for body in (b"a", b"b"):
        other.put(body, priority=3)
    jobs = [worker.reserve(timeout=5) for _ in range(2)]
    assert is_empty(other)
    if how == "quit":
        worker._sock.sendall(b"quit\r\n")
    worker.close()
    assert [other.reserve(timeout=5).body for _ in range(2)] == [b"a", b"b"]
    stats = other.stats_job(jobs[0])
    assert (stats["pri"], stats["releases"], stats["timeouts"], stats["reserves"]) == (3, 0, 0, 2)


def test_a_connections_end_wakes_who_waits(connect, raw, tube):
    worker, waiting = connect(), raw()
    number = worker.put(b"x")
    worker.reserve(timeout=5)
    waiting.ask(b"watch %b" % tube.encode())
    waiting.send(b"reserve\r\n")
    assert waiting.says_nothing()
    worker.close()
    assert waiting.answer() == b"RESERVED %d 1\r\nx\r\n" % number


def test_stats_of_a_job_count_its_life(client, tube):
    number = client.put(b"x", priority=9, ttr=33)
    job = client.reserve(timeout=5)
    client.touch(job)
    client.release(job, priority=8)
    client.bury(client.reserve(timeout=5), priority=7)
    client.kick(1)
    stats = client.stats_job(number)
    expected = {"id": number, "tube": tube, "state": "ready", "pri": 7, "delay": 0, "ttr": 33,
                "time-left": 0, "reserves": 2, "timeouts": 0, "releases": 1, "buries": 1,
                "kicks": 1}
    assert {key: stats[key] for key in expected} == expected
    assert list(stats) == ["id", "tube", "state", "pri", "age", "delay", "ttr", "time-left",
                           "file", "reserves", "timeouts", "releases", "buries", "kicks"]
