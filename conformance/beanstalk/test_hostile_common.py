"""Hostile input that every front door must bear: silence, dribbling, floods, other protocols, odd
names.

What lives here: the list common to all doors. What does not: malformed beanstalk
(test_hostile_beanstalk.py). beanstalk has no login and no heartbeat: a silent connection may stay
for ever, it must only cost little.

Promise: P14.
"""

from __future__ import annotations

import random
import time

import pytest

import wire
from conftest import KIND, PID
from harness.server import rss_bytes
from wire import Raw

# What an idle connection may cost, in bytes of resident memory; buffers of one with pending input
# count too.
IDLE_BYTES_MAX = 64 << 10
MANY = 800


def test_silence_costs_little_and_ends_nothing(raw, guard, tube):
    silent = [raw() for _ in range(20)]
    halfway = [raw() for _ in range(20)]
    for one in halfway:
        one.ask(b"use %b" % tube.encode())
        one.send(b"put 0 0 60 100\r\nabc")
    time.sleep(1.0)
    guard.check()
    for one in silent:
        assert one.ask(b"list-tube-used") == b"USING default\r\n"
    for one in halfway:
        one.send(b"x" * 97 + b"\r\n")
        assert one.answer().startswith(b"INSERTED ")


def test_dribbling(raw, guard, tube):
    """A slow client is served as soon as its line is whole, and holds up nobody."""
    slow = [raw() for _ in range(10)]
    data = b"use %b\r\nput 0 0 60 3\r\nabc\r\n" % tube.encode()
    for at in range(len(data)):
        for one in slow:
            one.send(data[at:at + 1])
        if at % 16 == 0:
            time.sleep(0.02)
            guard.check()
    for one in slow:
        assert one.answer() == b"USING %b\r\n" % tube.encode()
        assert one.answer().startswith(b"INSERTED ")


@pytest.mark.parametrize("said", [b"", b"stat", b"put 0 0 60 10\r\nabc",
                                  b"put 0 0 60 100000\r\nabc", b"x" * 1000],
                         ids=["nothing", "line", "body", "big body", "long line"])
def test_half_close(raw, guard, said):
    one = raw()
    one.send(said)
    one.end_sending()
    assert one.closes_within(5), "a half-closed peer stays for ever"


@pytest.mark.parametrize("command", [b"reserve\r\n", b"reserve-with-timeout 1000\r\n"])
def test_half_open_waiting(raw, guard, tube, command):
    """A worker that is cut off while it waits gets no job that somebody else could have."""
    gone, other = raw(), raw()
    for one in (gone, other):
        one.ask(b"use %b" % tube.encode())
        one.ask(b"watch %b" % tube.encode())
        one.ask(b"ignore default")
    gone.send(command)
    assert gone.says_nothing()
    gone.reset()
    deadline = time.monotonic() + 5
    while other.stats(b"stats-tube %b" % tube.encode())["current-waiting"] != "0":
        assert time.monotonic() < deadline, "still waits"
    number = other.put(b"x")
    assert other.ask(b"reserve-with-timeout 5") == b"RESERVED %d 1\r\nx\r\n" % number


def test_reset_in_the_middle(guard, port):
    for cut in (1, 4, 14, 16, 20, 60):
        one = Raw(port)
        one.send((b"put 0 0 60 100\r\n" + b"x" * 102)[:cut])
        one.reset()


def test_reset_with_answers_on_the_way(guard, port, tube):
    one = Raw(port)
    one.send(b"use %b\r\nput 0 0 60 60000\r\n" % tube.encode() + b"x" * 60_000 + b"\r\n")
    one.answers(2)
    for _ in range(20):
        other = Raw(port)
        other.send(b"watch %b\r\n" % tube.encode() + b"reserve\r\n" + b"list-tubes\r\n" * 50)
        other.reset()
    with Raw(port) as last:
        last.ask(b"watch %b" % tube.encode())
        assert last.ask(b"reserve-with-timeout 5").startswith(b"RESERVED ")


def test_many_connections(guard, port):
    before = rss_bytes(PID) if KIND == "potager" else 0
    many = [Raw(port) for _ in range(MANY)]
    for one in many:
        one.send(b"list-tube-used")
    guard.check()
    if before:
        assert rss_bytes(PID) - before <= MANY * IDLE_BYTES_MAX
    for one in many[::2]:
        one.close()
    for one in many[1::2]:
        assert one.ask(b"") == b"USING default\r\n"
        one.close()


def test_connections_that_come_and_go(guard, port):
    for _ in range(1000):
        Raw(port).close()
    for _ in range(300):
        one = Raw(port)
        one.send(b"watch conf-brief\r\nreserve-with-timeout 100\r\n")
        one.close()


FOREIGN = {
    "TLS client hello": bytes.fromhex("16030100a5010000a10303") + bytes(160),
    "PROXY v1": b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
    "PROXY v2": b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12),
    "AMQP": b"AMQP\x00\x00\x09\x01",
    "a Redis command": b"*1\r\n$4\r\nPING\r\n",
    "NUL bytes": bytes(4096),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_foreign_protocols_do_nothing(raw, guard, what):
    one = raw()
    one.send(FOREIGN[what])
    one.end_sending()
    assert one.closes_within(5)


SMUGGLED = b"put 0 0 60 8\r\nsmuggled\r\n"


@pytest.mark.potager_only("the original takes the lines of an HTTP request for commands")
@pytest.mark.parametrize("said", [
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 24\r\n\r\n",
    b"HEAD / HTTP/1.0\r\n\r\n", b"OPTIONS * HTTP/1.1\r\n\r\n", b"PUT /x HTTP/1.1\r\n\r\n",
    b"CONNECT localhost:11300 HTTP/1.1\r\n\r\n", b"DELETE /1 HTTP/1.1\r\n\r\n",
    b"PATCH / HTTP/1.1\r\n\r\n", b"TRACE / HTTP/1.1\r\n\r\n",
    b"nonsense\r\nHost: localhost\r\n\r\n",
], ids=lambda said: said.split()[0].decode())
def test_http_closes_the_connection(raw, guard, said):
    """A page in a browser must not be able to put jobs."""
    one, other = raw(), raw()
    before = int(other.stats()["total-jobs"])
    one.send(said + SMUGGLED)
    assert one.closes_within(5)
    assert int(other.stats()["total-jobs"]) == before


@pytest.mark.parametrize("seed", range(4))
def test_random_megabyte(raw, guard, seed):
    one = raw()
    one.send(random.Random(seed).randbytes(1 << 20))
    one.end_sending()
    assert one.closes_within(10)


WORDS = (b"put", b"reserve", b"reserve-with-timeout", b"reserve-job", b"delete", b"release",
         b"bury", b"kick", b"kick-job", b"touch", b"peek", b"peek-ready", b"use", b"watch", b"ignore",
         b"list-tubes", b"stats", b"stats-job", b"stats-tube", b"pause-tube", b"\x00", b"\r",
         b"-", b"0", b"1", b"4294967295", b"4294967296", b"18446744073709551616", b"default",
         b"a" * 201)


@pytest.mark.parametrize("seed", range(4))
def test_random_lines_of_good_words(raw, guard, tube, seed):
    dice = random.Random(seed)
    one = raw()
    one.ask(b"use %b" % tube.encode())
    for _ in range(400):
        line = b" ".join(dice.choice(WORDS) for _ in range(dice.randrange(1, 6)))
        if line.startswith(b"pause-tube default") or b"kick " in line:
            continue
        one.send(line + dice.choice((b"\r\n", b"\r\n", b"\n", b"")))
    one.end_sending()
    assert one.closes_within(10)


def test_command_split_at_every_byte(port, guard, tube):
    data = b"put 0 0 60 5\r\nab\r\nc\r\n"
    with Raw(port) as one:
        one.ask(b"use %b" % tube.encode())
        for cut in range(1, len(data)):
            one.send(data[:cut])
            time.sleep(0.002)
            one.send(data[cut:])
            assert one.answer().startswith(b"INSERTED ")


def test_ten_thousand_puts_in_one_piece(raw, guard, tube):
    one = raw()
    one.ask(b"use %b" % tube.encode())
    one.send(b"put 0 0 60 4\r\nmany\r\n" * 10_000)
    assert all(answer.startswith(b"INSERTED ") for answer in one.answers(10_000))
    stats = one.stats(b"stats-tube %b" % tube.encode())
    assert stats["current-jobs-ready"] == "10000"


@pytest.mark.parametrize("ask", [b"stats\r\n", b"peek-ready\r\n", b"list-tubes\r\n"],
                         ids=lambda ask: ask.decode().strip())
def test_never_reading_replies(raw, guard, tube, ask):
    one = raw(receive_bytes=4096)
    one.send(b"use %b\r\nput 0 0 60 60000\r\n" % tube.encode() + b"x" * 60_000 + b"\r\n")
    one.answers(2)
    one.socket.settimeout(1)
    for _ in range(200):
        if not one.send(ask * 500):
            break
    guard.check()


def test_never_reading_jobs(raw, guard, tube):
    """What a stopped worker has taken goes back when it ends; meanwhile the others go on."""
    producer, stopped = raw(), raw(receive_bytes=4096)
    producer.ask(b"use %b" % tube.encode())
    for _ in range(500):
        producer.put(b"y" * 50_000)
    stopped.send(b"watch %b\r\n" % tube.encode() + b"reserve\r\n" * 500)
    time.sleep(0.3)
    guard.rss = max(guard.rss, rss_bytes(guard.pid) if guard.pid else 0)
    guard.check()
    stopped.reset()
    key, deadline = "current-jobs-ready", time.monotonic() + 10
    while producer.stats(b"stats-tube %b" % tube.encode())[key] != "500":
        assert time.monotonic() < deadline, "jobs of a stopped worker do not come back"
        time.sleep(0.05)


NAMES = {
    "ANSI escapes": b"\x1b[2J\x1b]0;owned\x07", "NUL": b"a\x00b", "bidi": "\u202egnp.exe".encode(),
    "not UTF-8": b"\xff\xfe\x80", "200 bytes multi-byte": ("é" * 100).encode(),
    "quotes": b"'\"`$(id)--", "format": b"%s%n{}{0}", "markup": b"<img/onerror>",
    "backslash": b"a\\b", "space": b"a b", "DEL": b"a\x7f",
}


@pytest.mark.parametrize("what", NAMES)
def test_odd_names_in_every_field(raw, guard, what):
    one = raw()
    for word in (b"use %b", b"watch %b", b"ignore %b", b"stats-tube %b", b"pause-tube %b 1"):
        assert one.ask(word % NAMES[what]) == b"BAD_FORMAT\r\n"
    assert one.ask(b"list-tube-used") == b"USING default\r\n"


@pytest.mark.parametrize("name", [b"../../../etc/passwd", b"/", b"..", b"$(id)", b";", b"+_-"])
def test_good_names_that_look_odd(raw, guard, name):
    one = raw()
    assert one.ask(b"use %b" % name) == b"USING %b\r\n" % name
    assert one.ask(b"watch %b" % name) == b"WATCHING 2\r\n"
    number = one.put(b"x")
    assert one.stats(b"stats-job %d" % number)["tube"] == name.decode()
    assert name.decode() in wire.tubes(one.ask(b"list-tubes"))
    assert one.ask(b"delete %d" % number) == b"DELETED\r\n"
