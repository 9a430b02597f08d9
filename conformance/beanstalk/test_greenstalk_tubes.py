"""greenstalk, unmodified: tubes come and go, are watched, paused and counted.

What lives here: use, watch, ignore, the lists, pause-tube, stats-tube. What does not: stats of the
whole server (test_greenstalk_server.py).
"""

from __future__ import annotations

import time

import greenstalk
import pytest
from greenstalk import NotFoundError, TimedOutError
from test_greenstalk_jobs import bodies

import wire


def test_a_fresh_connection(connect):
    client = connect(use="default", watch="default")
    assert client.using() == "default"
    assert client.watching() == ["default"]


def test_use(client, name):
    client.use(name("a"))
    assert client.using() == name("a")
    client.put(b"x")
    client.use(name("b"))
    with pytest.raises(NotFoundError):
        client.peek_ready()


def test_watch_and_ignore(connect, name):
    client = connect(watch="default")
    assert client.watch(name("a")) == 2
    assert client.watch(name("a")) == 2
    assert client.watch(name("b")) == 3
    assert client.ignore(name("never")) == 3
    assert client.ignore("default") == 2
    assert sorted(client.watching()) == sorted([name("a"), name("b")])
    client.ignore(name("a"))
    with pytest.raises(greenstalk.NotIgnoredError):
        client.ignore(name("b"))
    assert client.ignore(name("never")) == 1


def test_the_lists_order(connect, name):
    """The last one takes the place of the one that goes."""
    client = connect(watch="default")
    tubes = [name() for _ in range(4)]
    for tube in tubes:
        client.watch(tube)
    client.ignore(tubes[0])
    assert client.watching() == ["default", tubes[3], tubes[1], tubes[2]]
    client.ignore("default")
    assert client.watching() == [tubes[2], tubes[3], tubes[1]]


@pytest.mark.parametrize("tube", ["a" * 200, "ABCxyz019-+/;.$_()", "+a", "/", "a-"])
def test_good_names(connect, tube):
    client = connect(use="default", watch="default")
    client.use(tube)
    assert client.using() == tube
    client.watch(tube)
    client.put(b"x")
    assert bodies(client, 1) == [b"x"]
    assert client.stats_tube(tube)["name"] == tube
    client.pause_tube(tube, 0)


@pytest.mark.parametrize("tube", ["a" * 201, "-a", "a b", "", "a,b", "a\"b", "a\x00b", "a\tb", "*"],
                         ids=lambda tube: repr(tube)[:12])
def test_bad_names(connect, tube):
    client = connect(use="default", watch="default")
    for act in (client.use, client.watch, client.ignore, client.stats_tube,
                lambda one: client.pause_tube(one, 1)):
        with pytest.raises(greenstalk.BadFormatError):
            act(tube)
    assert client.using() == "default"
    assert client.watching() == ["default"]


def test_tubes_are_made_by_use_and_watch_only(connect, name):
    client = connect(use="default", watch="default")
    with pytest.raises(NotFoundError):
        client.stats_tube(name("asked"))
    with pytest.raises(NotFoundError):
        client.pause_tube(name("asked"), 1)
    client.ignore(name("asked"))
    client.use(name("used"))
    client.watch(name("watched"))
    tubes = client.tubes()
    assert name("used") in tubes and name("watched") in tubes and "default" in tubes
    assert name("asked") not in tubes


@pytest.mark.parametrize("state", ["ready", "delayed", "reserved", "buried"])
def test_a_tube_lives_as_long_as_a_job_is_in_it(connect, name, state):
    client, tube = connect(use="default", watch="default"), name("kept")
    client.use(tube)
    number = client.put(b"x", delay=100 if state == "delayed" else 0)
    client.use("default")
    if state in ("reserved", "buried"):
        job = client.reserve_job(number)
        if state == "buried":
            client.bury(job)
    assert tube in client.tubes()
    client.delete(number)
    assert tube not in client.tubes()
    with pytest.raises(NotFoundError):
        client.stats_tube(tube)


def test_a_tube_goes_with_its_last_user_and_watcher(connect, name):
    client, tube = connect(use="default", watch="default"), name("gone")
    other = connect(use=tube, watch=tube)
    client.watch(tube)
    client.ignore(tube)
    assert tube in client.tubes()
    other.close()
    until(lambda: tube not in client.tubes())


def test_what_was_counted_goes_with_the_tube(connect, name):
    client, tube = connect(use="default", watch="default"), name("again")
    client.use(tube)
    client.delete(client.put(b"x"))
    client.pause_tube(tube, 100)
    assert client.stats_tube(tube)["total-jobs"] == 1
    client.use("default")
    client.use(tube)
    stats = client.stats_tube(tube)
    assert (stats["total-jobs"], stats["cmd-delete"], stats["cmd-pause-tube"], stats["pause"]) == (
        0, 0, 0, 0)


def until(claim, limit_s: float = 10.0) -> None:
    """Wait until `claim()` holds."""
    deadline = time.monotonic() + limit_s
    while not claim():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


def test_stats_of_a_tube(connect, raw, tube):
    client, worker, waiting = connect(), connect(), raw()
    waiting.ask(b"watch %b" % tube.encode())
    waiting.ask(b"ignore default")
    for priority, delay in ((0, 0), (1023, 0), (1024, 0), (0, 100), (5, 0), (6, 0)):
        client.put(b"x", priority=priority, delay=delay)
    worker.reserve(timeout=5)
    worker.bury(worker.reserve(timeout=5), priority=1)
    worker.delete(worker.reserve(timeout=5))
    client.pause_tube(tube, 100)
    waiting.send(b"reserve\r\n")
    assert waiting.says_nothing()
    stats = client.stats_tube(tube)
    left = stats.pop("pause-time-left")
    assert 90 <= left <= 100
    assert list(stats.items()) == [
        ("name", tube), ("current-jobs-urgent", 1), ("current-jobs-ready", 2),
        ("current-jobs-reserved", 1), ("current-jobs-delayed", 1), ("current-jobs-buried", 1),
        ("total-jobs", 6), ("current-using", 2), ("current-watching", 3), ("current-waiting", 1),
        ("cmd-delete", 1), ("cmd-pause-tube", 1), ("pause", 100),
    ]


def test_a_paused_tube_gives_nothing(client, tube):
    number = client.put(b"x")
    client.pause_tube(tube, 100)
    with pytest.raises(TimedOutError):
        client.reserve(timeout=0)
    assert client.peek_ready().id == number
    client.put(b"y")
    client.release(client.reserve_job(number))
    with pytest.raises(TimedOutError):
        client.reserve(timeout=0)
    client.delete(number)
    client.pause_tube(tube, 0)
    assert client.reserve(timeout=5).body == b"y"


def test_a_pause_ends_by_itself(client, tube):
    client.put(b"x")
    client.pause_tube(tube, 1)
    began = time.monotonic()
    assert client.reserve(timeout=5).body == b"x"
    assert time.monotonic() - began > 0.9
    assert client.stats_tube(tube)["pause"] == 0


def test_another_tube_goes_on_while_one_is_paused(connect, name):
    client = connect(watch=[name("a"), name("b")])
    for tube in (name("a"), name("b")):
        client.use(tube)
        client.put(tube.encode())
    client.pause_tube(name("a"), 100)
    assert client.reserve(timeout=0).body == name("b").encode()
    with pytest.raises(TimedOutError):
        client.reserve(timeout=0)
    client.pause_tube(name("a"), 0)
    assert client.reserve(timeout=5).body == name("a").encode()


def test_the_end_of_a_pause_wakes_all_who_wait(raw, tube):
    producer, workers = raw(), [raw(), raw()]
    producer.ask(b"use %b" % tube.encode())
    producer.ask(b"pause-tube %b 1" % tube.encode())
    for worker in workers:
        worker.ask(b"watch %b" % tube.encode())
        worker.send(b"reserve\r\n")
    for _ in workers:
        producer.put(b"x")
    for worker in workers:
        assert worker.answer().startswith(b"RESERVED ")


def test_lists_are_plain_yaml(raw, tube):
    import yaml

    one = raw()
    one.ask(b"watch %b" % tube.encode())
    for what in (b"list-tubes", b"list-tubes-watched"):
        answer = one.ask(what)
        listed = yaml.safe_load(wire.body_of(answer))
        assert listed == wire.tubes(answer)
        assert tube in listed
        assert int(answer[3:answer.index(b"\r\n")]) == len(wire.body_of(answer))
