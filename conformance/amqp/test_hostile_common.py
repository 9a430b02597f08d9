"""Hostile input that every front door must bear: silence, dribbling, floods, other protocols, odd
names.

What lives here: the list common to all doors. What does not: malformed AMQP
(test_hostile_frames.py, test_hostile_methods.py).

Promise: P14.
"""

from __future__ import annotations

import random
import socket
import struct
import time

import pytest

import frames as f
from frames import Raw
from support import until

# RabbitMQ and Potager both give a handshake 10 s.
HANDSHAKE_LIMIT_S = 14.0


def closes_within(raw: Raw, limit_s: float) -> bool:
    """Whether the server closes the connection in time."""
    deadline = time.monotonic() + limit_s
    raw.socket.settimeout(0.5)
    while time.monotonic() < deadline:
        try:
            if not raw.socket.recv(4096):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def test_silence_is_closed(port, guard):
    silent = [Raw(port) for _ in range(20)]
    halfway = [Raw(port).to_start() for _ in range(20)]
    tuned = [Raw(port).to_tune() for _ in range(20)]
    for raw in silent + halfway + tuned:
        assert closes_within(raw, HANDSHAKE_LIMIT_S), "a silent peer stays for ever"


def test_dribbling_does_not_extend_the_handshake(port, guard):
    raw = Raw(port)
    data = f.HEADER + f.start_ok()
    began = time.monotonic()
    raw.socket.settimeout(1.0)
    closed = False
    for byte in data:
        if not raw.send(bytes([byte])):
            closed = True
            break
        try:
            closed = not raw.socket.recv(4096)
        except TimeoutError:
            pass
        except OSError:
            closed = True
        if closed or time.monotonic() - began > HANDSHAKE_LIMIT_S:
            break
    assert closed or closes_within(raw, 2), "each byte bought more time"


@pytest.mark.parametrize("stage", ["header", "start", "open"])
def test_half_close(port, guard, stage):
    raw = Raw(port)
    if stage != "header":
        getattr(raw, {"start": "to_start", "open": "to_channel"}[stage])()
    raw.socket.shutdown(socket.SHUT_WR)
    assert closes_within(raw, 8), "a half-closed peer stays for ever"


def test_reset_in_the_middle_of_a_frame(port, guard):
    for cut in (3, 7, 20, 60):
        raw = Raw(port).to_channel()
        raw.send(f.publish("conf-nowhere", b"x" * 1000)[:cut])
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()


def test_many_connections_without_login(port, guard):
    many = [socket.create_connection(("127.0.0.1", port)) for _ in range(800)]
    guard.check()
    for one in many:
        one.close()


FOREIGN = {
    "TLS client hello": bytes.fromhex("16030100a5010000a10303") + bytes(160),
    "HTTP GET": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "HTTP POST": b"POST /x HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 4096,
    "PROXY v1": b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + f.HEADER,
    "PROXY v2": b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12) + f.HEADER,
    "NUL bytes": bytes(4096),
    "a Redis command": b"*1\r\n$4\r\nPING\r\n",
}


@pytest.mark.parametrize("what", FOREIGN)
def test_foreign_protocols_are_refused(port, guard, what):
    raw = Raw(port)
    raw.send(FOREIGN[what])
    assert closes_within(raw, HANDSHAKE_LIMIT_S)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stage", ["none", "start", "channel"])
def test_random_megabyte(port, guard, stage, seed):
    raw = Raw(port)
    if stage != "none":
        getattr(raw, f"to_{stage}")()
    raw.send(random.Random(seed).randbytes(1 << 20))
    assert closes_within(raw, HANDSHAKE_LIMIT_S)


@pytest.mark.parametrize("seed", range(3))
def test_random_methods_in_good_frames(port, guard, seed):
    dice = random.Random(seed)
    for _ in range(60):
        raw = Raw(port).to_channel()
        for _ in range(10):
            payload = struct.pack(">HH", dice.choice((10, 20, 40, 50, 60, 85, 90)),
                                  dice.choice((10, 11, 20, 21, 30, 40, 50, 60, 70, 80, 90, 110)))
            raw.send(f.frame(dice.choice((1, 1, 1, 2)), dice.choice((0, 1, 1, 2)),
                             payload + dice.randbytes(dice.randrange(60))))
        raw.close()


def test_message_split_at_every_byte(port, guard, name):
    queue = name()
    raw = Raw(port).to_channel()
    for byte in f.declare(queue) + f.publish(queue, b"slowly") + f.get(queue, True):
        raw.send(bytes([byte]))
    raw.await_method(60, 71)
    assert raw.read_frame()[0] == 2
    assert raw.read_frame()[2] == b"slowly"


def test_ten_thousand_messages_in_one_piece(port, guard, name):
    queue = name()
    raw = Raw(port).to_channel()
    raw.send(f.declare(queue))
    raw.await_method(50, 11)
    raw.send(f.publish(queue, b"many") * 10_000)

    def count():
        raw.send(f.declare(queue))
        answer = raw.await_method(50, 11)
        return struct.unpack(">I", answer[1 + answer[0]:5 + answer[0]])[0]

    until(lambda: count() == 10_000, what="all messages in the queue")


def test_never_reading_replies(port, guard, name):
    queue = name()
    raw = Raw(port).to_channel()
    raw.send(f.declare(queue) + f.publish(queue, b"x" * 100_000))
    raw.socket.settimeout(3)
    ask = (f.get(queue) + f.nack(0, 3)) * 100
    for _ in range(300):
        if not raw.send(ask):
            break
    guard.check()


def test_never_reading_deliveries(port, guard, name):
    queue = name()
    with_backlog = guard.channel
    with_backlog.queue_declare(queue)
    for _ in range(2_000):
        with_backlog.basic_publish("", queue, b"y" * 50_000)
    raw = Raw(port).to_channel()
    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.send(f.consume(queue, bits=2))
    until(lambda: with_backlog.queue_declare(queue, passive=True).method.consumer_count == 1)
    guard.rss = max(guard.rss, 1)
    guard.check()
    raw.close()
    with_backlog.queue_delete(queue)


NAMES = {
    "ANSI escapes": b"\x1b[2J\x1b]0;owned\x07", "NUL": b"a\x00b", "CR and LF": b"a\r\nb",
    "bidi override": "\u202egnp.exe".encode(), "not UTF-8": b"\xff\xfe\x80",
    "255 bytes": ("é" * 127).encode() + b"x", "multi-byte cut": ("é" * 128).encode()[:255],
    "quotes": b"'\"`$(id);--", "path": b"../../../etc/passwd", "format": b"%s%n{}{0}",
}


@pytest.mark.parametrize("what", NAMES)
def test_odd_names_in_every_field(port, guard, what):
    odd = NAMES[what]
    key = odd[:200]
    for raw_bytes in (
        f.declare(odd), f.exchange_declare(odd, bits=4), f.declare(b"conf-odd", f.table()) +
        f.publish(key, b"x"), f.consume(odd.decode("latin-1")[:100]), f.get("x" + "y" * 200),
    ):
        raw = Raw(port).to_channel()
        raw.send(raw_bytes)
        assert raw.outcome().split(":")[0] in ("alive", "channel", "connection")
        raw.close()
    raw = Raw(port).to_start()
    raw.send(f.start_ok(response=b"\x00" + odd.replace(b"\x00", b"?") + b"\x00x"))
    assert raw.outcome(probe=False) in ("connection:403", "closed")
