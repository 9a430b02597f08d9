"""Malformed and excessive beanstalk, group by group; every case is answered, and bears no harm.

What lives here: eleven groups that are beanstalk's own. What does not: what every door must bear
(test_hostile_common.py), and forms without malice (test_wire.py).

Promise: P14.
"""

from __future__ import annotations

import time

import pytest

from conftest import KIND, PID
from harness.server import rss_bytes
from wire import Raw

USED = b"USING default\r\n"
BAD, UNKNOWN, MISSING, TOO_BIG = (
    b"BAD_FORMAT\r\n", b"UNKNOWN_COMMAND\r\n", b"NOT_FOUND\r\n", b"JOB_TOO_BIG\r\n")
ALIVE = b"list-tube-used\r\n"
# Many delayed jobs for one second, at a size that a small machine bears.
DUE_JOBS = 100_000
TUBES = 20_000


@pytest.fixture
def one(raw, tube):
    """A connection on a tube of its own."""
    connection = raw()
    connection.ask(b"use %b" % tube.encode())
    connection.ask(b"watch %b" % tube.encode())
    connection.ask(b"ignore default")
    return connection


# 1. The size of a put.
@pytest.mark.parametrize("size", [b"-1", b"1e3", b"", b"0x10", b"1.0", b"4294967296", b"+1", b"abc",
                                  b"18446744073709551616", b"9" * 100])
def test_sizes_that_are_no_numbers(raw, guard, size):
    one = raw()
    one.send(b"put 0 0 60 " + size + b"\r\n" + ALIVE)
    assert one.answers(2) == [BAD, USED]


@pytest.mark.parametrize("size", [65536, 2**24, 2**31 - 1, 2**31, 2**32 - 3, 2**32 - 2, 2**32 - 1])
def test_sizes_that_are_too_big_cost_nothing(raw, guard, size):
    before = rss_bytes(PID) if KIND == "potager" else 0
    several = [raw() for _ in range(10)]
    for one in several:
        one.send(b"put 0 0 60 %d\r\n" % size + b"x" * 60_000 + b"\r\n" + ALIVE)
        assert one.says_nothing(0.02), "the body has not come yet"
    if before:
        assert rss_bytes(PID) - before < 16 << 20, "memory for a body that will not be kept"


@pytest.mark.parametrize("line", [b"put", b"put ", b"put 0", b"put 0 0", b"put 0 0 60",
                                  b"put 0 0 60 1 1", b"put  ", b"put 0,0,60,1"])
def test_puts_with_fields_missing_or_more(raw, guard, line):
    one = raw()
    one.send(line + b"\r\n" + ALIVE)
    assert one.answers(2) == [UNKNOWN if line == b"put" else BAD, USED]


def test_announced_bodies_cost_only_what_has_come(raw, guard):
    """A thousand half-told bodies of the largest size."""
    several = [raw() for _ in range(300)]
    for one in several:
        one.send(b"put 0 0 60 65535\r\nabc")
    time.sleep(0.2)
    guard.check()


# 2. A body that is too big is thrown away, not run.
@pytest.mark.parametrize("pieces", [1, 7, 400])
def test_commands_in_a_body_that_is_too_big_are_not_run(one, raw, guard, pieces):
    number = raw().put(b"victim", delay=1000)
    body = (b"delete %d\r\n" % number) * 10_000
    data = b"put 0 0 60 %d\r\n" % len(body) + body + b"\r\n" + ALIVE
    width = len(data) // pieces + 1
    for at in range(0, len(data), width):
        one.send(data[at:at + width])
    assert one.answer() == TOO_BIG
    assert one.answer().startswith(b"USING ")
    assert one.ask(b"delete %d" % number) == b"DELETED\r\n"


def test_a_too_big_body_that_ends_early_takes_what_follows(raw, guard):
    one = raw()
    one.send(b"put 0 0 60 70000\r\nshort\r\n" + ALIVE)
    assert one.says_nothing()
    one.send(b"x" * (70_002 - 7 - len(ALIVE)) + ALIVE)
    assert one.answers(2) == [TOO_BIG, USED]


# 3. Bodies without their line end, and with NUL.
@pytest.mark.parametrize("tail", [b"xx", b"\n\n", b"\r\r", b"\n\r", b"x\n", b"\r ", b"\x00\x00"])
def test_bodies_without_line_end(one, guard, tail):
    one.send(b"put 0 0 60 3\r\nabc" + tail + b"peek-ready\r\n")
    assert one.answers(2) == [b"EXPECTED_CRLF\r\n", MISSING]


def test_bodies_with_every_byte(one, guard):
    body = bytes(range(256)) * 20
    number = one.put(body)
    assert one.ask(b"reserve") == b"RESERVED %d %d\r\n%b\r\n" % (number, len(body), body)
    one.ask(b"delete %d" % number)


# 4. Lines too long, and ends that are none.
def test_a_megabyte_without_line_end(raw, guard):
    one = raw()
    one.send(b"use " + b"a" * (1 << 20))
    assert one.says_nothing()
    guard.check()
    one.send(b"\r\n" + ALIVE)
    assert one.answers(2) == [BAD, USED]


def test_a_long_line_of_commands_without_ends(raw, guard):
    one = raw()
    one.send(b"list-tube-used\n" * 10_000 + b"\r\n" + ALIVE)
    assert one.answers(2) == [BAD, USED]


@pytest.mark.parametrize("length", [224, 226, 227, 447, 448, 450, 672, 674, 10_000])
def test_long_lines_at_every_edge(raw, guard, length):
    one = raw()
    one.send(b"y" * (length - 2) + b"\r\n" + ALIVE)
    assert one.answers(2) == [UNKNOWN if length <= 224 else BAD, USED]


@pytest.mark.parametrize("sign", [b"\n", b"\x0b", b"\x0c", b"\x1e", b"\x85", b"\xe2\x80\xa8"],
                         ids=repr)
def test_other_line_ends_end_nothing(raw, guard, sign):
    one = raw()
    one.send(b"nonsense" + sign + b"list-tube-used\r\n" + ALIVE)
    assert one.answers(2) == [UNKNOWN, USED]


# 5. Tube names.
@pytest.mark.parametrize("name", [b"a" * 201, b"-", b"-a", b"a b", b" a", b"a ", b"\xc3\xa9",
                                  b"a\tb", b"a\nb", b"a,b", b"a'b", b"", b"a\x00b", b"a:b", b"a&b", b"@"],
                         ids=lambda name: repr(name)[:12])
def test_bad_names(raw, guard, name):
    one = raw()
    for word in (b"use ", b"watch ", b"ignore ", b"stats-tube "):
        assert one.ask(word + name) == BAD
    assert one.ask(b"pause-tube " + name + b"!1") == BAD
    assert one.ask(b"list-tube-used") == USED


# 6. Priorities, delays, times to run.
@pytest.mark.parametrize("line", [
    b"put 4294967296 0 60 1", b"put 0 4294967296 60 1", b"put 0 0 4294967296 1",
    b"put 18446744073709551616 0 60 1", b"put 0 99999999999999999999 60 1",
    b"put -1 0 60 1", b"put 0 -1 60 1", b"put 0 0 -1 1", b"put 0.5 0 60 1", b"put 1e9 0 60 1",
    b"release 1 4294967296 0", b"release 1 0 4294967296", b"release 1 -1 0", b"bury 1 4294967296",
    b"bury 1 -1",
])
def test_numbers_too_large(raw, guard, line):
    one = raw()
    one.send(line + b"\r\n" + ALIVE)
    assert one.answers(2) == [BAD, USED]


def test_the_largest_numbers_are_kept(one, guard):
    number = one.put(b"x", pri=2**32 - 1, delay=2**32 - 1, ttr=2**32 - 1)
    stats = one.stats(b"stats-job %d" % number)
    assert (stats["pri"], stats["delay"], stats["ttr"]) == ("4294967295",) * 3
    assert stats["state"] == "delayed"
    assert one.ask(b"reserve-job %d" % number).startswith(b"RESERVED ")
    assert int(one.stats(b"stats-job %d" % number)["time-left"]) > 4_294_967_290
    assert one.ask(b"release %d 4294967295 4294967295" % number) == b"RELEASED\r\n"
    assert one.stats(b"stats-job %d" % number)["state"] == "delayed"
    assert one.ask(b"kick 4294967295") == b"KICKED 1\r\n"
    assert one.ask(b"delete %d" % number) == b"DELETED\r\n"


def test_a_ttr_of_zero(one, guard):
    number = one.put(b"x", ttr=0)
    assert one.stats(b"stats-job %d" % number)["ttr"] == "1"
    one.ask(b"delete %d" % number)


# 7. Very many tubes, and the last one.
def test_watching_very_many_tubes(raw, guard, tube):
    """Potager may refuse with an error at its limit, never go down or go slow for others."""
    one = raw()
    one.ask(b"watch %b" % tube.encode())
    one.ask(b"ignore default")
    many = TUBES if KIND == "potager" else TUBES // 10
    refused = 0
    for at in range(0, many, 500):
        one.send(b"".join(b"watch %b-%d\r\n" % (tube.encode(), at + n) for n in range(500)))
        for answer in one.answers(500, 60):
            refused += answer == b"OUT_OF_MEMORY\r\n"
            assert answer == b"OUT_OF_MEMORY\r\n" or answer.startswith(b"WATCHING ")
    assert one.ask(b"reserve-with-timeout 0", 30) == b"TIMED_OUT\r\n"
    guard.check()
    one.close()
    if not refused:
        with Raw(guard.raw.socket.getpeername()[1]) as other:
            deadline = time.monotonic() + 30
            while int(other.stats()["current-tubes"]) > 100:
                assert time.monotonic() < deadline, "tubes nobody watches stay"
                time.sleep(0.1)


def test_the_last_tube_cannot_be_ignored(raw, guard):
    one = raw()
    for _ in range(100):
        assert one.ask(b"ignore default") == b"NOT_IGNORED\r\n"
    assert one.ask(b"watch default") == b"WATCHING 1\r\n"


# 8. Reservations.
@pytest.mark.potager_only("1.12 takes any number for a timeout, as 1.13 no longer does")
@pytest.mark.parametrize("seconds", [b"2147483648", b"4294967295", b"4294967296", b"-1", b"x", b"",
                                     b"18446744073709551616", b"+5"])
def test_timeouts_too_large(raw, guard, seconds):
    one = raw()
    one.send(b"reserve-with-timeout " + seconds + b"\r\n" + ALIVE)
    assert one.answers(2) == [BAD, USED]


def test_the_largest_timeout(one, guard):
    one.send(b"reserve-with-timeout 2147483647\r\n")
    assert one.says_nothing()
    one.end_sending()
    assert one.answer() == b"TIMED_OUT\r\n"


def test_reserve_then_vanish(one, port, tube, guard):
    number = one.put(b"x")
    for _ in range(50):
        worker = Raw(port)
        worker.send(b"watch %b\r\nignore default\r\nreserve\r\n" % tube.encode())
        assert worker.answers(3)[2] == b"RESERVED %d 1\r\nx\r\n" % number
        worker.reset()
    stats = one.stats(b"stats-job %d" % number)
    assert stats["reserves"] == "50"
    one.ask(b"delete %d" % number)


def test_settling_what_others_hold(one, raw, guard):
    number = one.put(b"x")
    one.ask(b"reserve")
    other = raw()
    for word in (b"delete %d", b"release %d 0 0", b"bury %d 0", b"touch %d", b"kick-job %d",
                 b"reserve-job %d"):
        assert other.ask(word % number) == MISSING
    assert one.ask(b"delete %d" % number) == b"DELETED\r\n"


@pytest.mark.oversleeps
def test_settling_what_is_over(one, guard):
    number = one.put(b"x", ttr=1)
    one.ask(b"reserve")
    time.sleep(1.3)
    one.ask(b"list-tube-used")
    for word in (b"touch %d", b"release %d 0 0", b"bury %d 0"):
        assert one.ask(word % number) == MISSING
    assert one.ask(b"delete %d" % number) == b"DELETED\r\n"


def test_thousands_of_reservations_of_one_connection(one, guard, tube):
    many = 5000
    one.send(b"put 0 0 600 1\r\nx\r\n" * many)
    assert all(answer.startswith(b"INSERTED ") for answer in one.answers(many, 60))
    one.send(b"reserve\r\n" * many)
    assert all(answer.startswith(b"RESERVED ") for answer in one.answers(many, 60))
    guard.check()
    one.close()
    deadline = time.monotonic() + 10
    while True:
        stats = guard.raw.stats(b"stats-tube %b" % tube.encode())
        if stats["current-jobs-ready"] == str(many):
            break
        assert time.monotonic() < deadline, stats
        time.sleep(0.05)


# 9. Kicks and pauses.
def test_kicks_of_any_size(one, guard):
    numbers = [one.put(b"x", delay=1000) for _ in range(3)]
    assert one.ask(b"kick 0") == b"KICKED 0\r\n"
    assert one.ask(b"kick 18446744073709551616") == BAD
    assert one.ask(b"kick " + b"9" * 200) == BAD
    assert one.ask(b"kick 4294967295") == b"KICKED 3\r\n"
    for number in numbers:
        one.ask(b"delete %d" % number)


@pytest.mark.parametrize("seconds", [b"4294967296", b"-1", b"x", b"", b"1 ", b"9" * 150])
def test_pauses_that_are_no_numbers(one, guard, tube, seconds):
    assert one.ask(b"pause-tube %b " % tube.encode() + seconds) == BAD


def test_the_longest_pause(one, guard, tube):
    number = one.put(b"x")
    assert one.ask(b"pause-tube %b 4294967295" % tube.encode()) == b"PAUSED\r\n"
    assert one.ask(b"reserve-with-timeout 0") == b"TIMED_OUT\r\n"
    assert int(one.stats(b"stats-tube %b" % tube.encode())["pause-time-left"]) > 4_294_967_290
    assert one.ask(b"pause-tube %b 0" % tube.encode()) == b"PAUSED\r\n"
    assert one.ask(b"reserve-with-timeout 5") == b"RESERVED %d 1\r\nx\r\n" % number
    one.ask(b"delete %d" % number)


# 10. Ids.
@pytest.mark.parametrize("word", [b"peek", b"delete", b"touch", b"kick-job", b"reserve-job",
                                  b"stats-job"])
def test_ids_of_any_size(raw, guard, word):
    one = raw()
    for number, answer in ((b"18446744073709551616", BAD), (b"18446744073709551615", MISSING),
                           (b"9223372036854775808", MISSING), (b"0", MISSING), (b"-1", BAD),
                           (b"1.5", BAD), (b"0x1", BAD), (b"9" * 190, BAD), (b"", BAD)):
        assert one.ask(word + b" " + number) == answer, number


# 11. Very many delayed jobs for the same second.
def test_very_many_jobs_due_at_once(one, raw, guard, tube):
    due = 6
    began = time.monotonic()
    sent = 0
    while sent < DUE_JOBS and time.monotonic() - began < due - 2:
        left = max(1, due - int(time.monotonic() - began))
        one.send(b"put 1 %d 60 1\r\nx\r\n" % left * 1000)
        assert all(answer.startswith(b"INSERTED ") for answer in one.answers(1000, 60))
        sent += 1000
    key = b"stats-tube %b" % tube.encode()
    deadline = time.monotonic() + 30
    slowest = 0.0
    while int(one.stats(key)["current-jobs-ready"]) < sent:
        assert time.monotonic() < deadline, "not all are ready"
        asked = time.monotonic()
        guard.raw.ask(b"list-tube-used")
        slowest = max(slowest, time.monotonic() - asked)
        time.sleep(0.02)
    assert slowest < 5, f"others waited for {slowest:.1f} s"
    assert one.ask(b"reserve-with-timeout 5").startswith(b"RESERVED ")
