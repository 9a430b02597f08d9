"""greenstalk, unmodified: delays, timeouts, time to run, DEADLINE_SOON.

What lives here: everything that waits for real seconds; the recorded stories say the same with
fewer of them. What does not: pauses (test_greenstalk_tubes.py).
"""

from __future__ import annotations

import time

import pytest
from greenstalk import DeadlineSoonError, NotFoundError, TimedOutError


class Watch:
    """How long something takes."""

    def __enter__(self) -> Watch:
        """Begin."""
        self.began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self.seconds = time.monotonic() - self.began


def test_a_delayed_job_comes_when_its_time_has_come(client):
    number = client.put(b"x", delay=1)
    assert client.stats_job(number)["state"] == "delayed"
    with pytest.raises(TimedOutError):
        client.reserve(timeout=0)
    with Watch() as watch:
        assert client.reserve(timeout=5).id == number
    assert watch.seconds > 0.8
    assert client.stats_job(number)["delay"] == 1


def test_delayed_jobs_come_in_order_of_their_time(client):
    client.put(b"second", delay=2, priority=0)
    client.put(b"first", delay=1, priority=9)
    assert [client.reserve(timeout=5).body for _ in range(2)] == [b"first", b"second"]


def test_release_with_delay(client):
    client.put(b"x")
    client.release(client.reserve(timeout=5), delay=1)
    with pytest.raises(TimedOutError):
        client.reserve(timeout=0)
    assert client.reserve(timeout=5).body == b"x"


@pytest.mark.parametrize("seconds", [0, 1])
def test_reserve_with_timeout(client, seconds):
    with Watch() as watch:
        with pytest.raises(TimedOutError):
            client.reserve(timeout=seconds)
    assert watch.seconds >= seconds


@pytest.mark.oversleeps
def test_a_job_whose_time_is_over_is_ready_again(connect):
    worker, other = connect(), connect()
    number = worker.put(b"x", ttr=1)
    job = worker.reserve(timeout=5)
    with Watch() as watch:
        assert other.reserve(timeout=5).id == number
    assert 0.7 < watch.seconds < 4
    for act in (worker.release, worker.bury, worker.touch, worker.delete):
        with pytest.raises(NotFoundError):
            act(job)
    assert other.stats_job(number)["timeouts"] == 1


@pytest.mark.oversleeps
def test_a_ttr_of_zero_is_one_second(connect):
    worker, other = connect(), connect()
    number = worker.put(b"x", ttr=0)
    assert worker.stats_job(number)["ttr"] == 1
    worker.reserve(timeout=5)
    with pytest.raises(TimedOutError):
        other.reserve(timeout=0)
    assert other.reserve(timeout=5).id == number


@pytest.mark.oversleeps
def test_touch_gives_the_whole_time_again(connect):
    worker, other = connect(), connect()
    worker.put(b"x", ttr=2)
    job = worker.reserve(timeout=5)
    for _ in range(3):
        time.sleep(1.1)
        worker.touch(job)
    with pytest.raises(TimedOutError):
        other.reserve(timeout=1)
    with Watch() as watch:
        assert other.reserve(timeout=5).id == job.id
    assert watch.seconds < 3


def test_touch_shows_in_time_left(client):
    number = client.put(b"x", ttr=100)
    job = client.reserve(timeout=5)
    time.sleep(1.1)
    assert client.stats_job(number)["time-left"] <= 98
    client.touch(job)
    assert client.stats_job(number)["time-left"] >= 99


def test_deadline_soon_at_once(client):
    client.put(b"x", ttr=1)
    job = client.reserve(timeout=5)
    for timeout in (None, 0, 10):
        with pytest.raises(DeadlineSoonError):
            client.reserve(timeout=timeout)
    client.delete(job)
    with pytest.raises(TimedOutError):
        client.reserve(timeout=0)


def test_deadline_soon_wakes_who_waits(client):
    client.put(b"x", ttr=2)
    job = client.reserve(timeout=5)
    with Watch() as watch:
        with pytest.raises(DeadlineSoonError):
            client.reserve(timeout=10)
    assert 0.8 < watch.seconds < 1.9
    client.touch(job)
    with pytest.raises(TimedOutError):
        client.reserve(timeout=0)


def test_something_ready_goes_before_deadline_soon(client):
    client.put(b"x", ttr=1)
    client.reserve(timeout=5)
    client.put(b"y", ttr=60)
    assert client.reserve(timeout=5).body == b"y"


def test_deadline_soon_is_for_the_owner_alone(connect):
    worker, other = connect(), connect()
    worker.put(b"x", ttr=1)
    worker.reserve(timeout=5)
    with pytest.raises(TimedOutError):
        other.reserve(timeout=0)


def test_reserve_job_is_never_told_deadline_soon(client):
    client.put(b"x", ttr=1)
    client.reserve(timeout=5)
    number = client.put(b"y", delay=100)
    assert client.reserve_job(number).body == b"y"


def test_a_sooner_timeout_goes_before_the_deadline(client):
    client.put(b"x", ttr=3)
    client.reserve(timeout=5)
    with pytest.raises(TimedOutError):
        client.reserve(timeout=1)


@pytest.mark.oversleeps
def test_several_jobs_run_out_each_in_its_time(connect):
    worker = connect()
    numbers = [worker.put(b"x", ttr=ttr) for ttr in (3, 1, 2)]
    for _ in range(3):
        worker.reserve(timeout=5)
    other, found = connect(), []
    for _ in range(3):
        job = other.reserve(timeout=5)
        other.delete(job)
        found.append(job.id)
    assert found == [numbers[1], numbers[2], numbers[0]]


def test_age_and_time_left(client):
    number = client.put(b"x", delay=100)
    time.sleep(1.1)
    stats = client.stats_job(number)
    assert stats["age"] == 1
    assert stats["time-left"] == 98
    client.kick_job(number)
    assert client.stats_job(number)["time-left"] == 0
