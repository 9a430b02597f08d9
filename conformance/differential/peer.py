"""One raw connection to one server: frames in and out, events by channel, nothing interpreted twice.

What lives here: the socket, the handshake, taking methods and content apart. What does not: which
methods are sent (player.py) and what two servers' answers mean (player.py, known.py).
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "amqp"))

import frames  # noqa: E402

LIMIT_S = 20.0
# Methods that content follows.
DELIVER, RETURN, GET_OK = (60, 60), (60, 50), (60, 71)
CONNECTION_CLOSE, CHANNEL_CLOSE, CHANNEL_CLOSE_OK = (10, 50), (20, 40), (20, 41)


@dataclass
class Event:
    """A method that came, with its content where it has some."""

    verb: tuple[int, int]
    arguments: bytes
    properties: bytes = b""
    body: bytes = b""
    missing: int = field(default=-1, repr=False)


class Reader:
    """Takes arguments off the front of bytes."""

    def __init__(self, data: bytes) -> None:
        """Start at the front."""
        self.data = data
        self.at = 0

    def take(self, form: str) -> int:
        """One number in the given struct format."""
        size = struct.calcsize(form)
        value = struct.unpack(">" + form, self.data[self.at:self.at + size])[0]
        self.at += size
        return value

    def raw(self, length: int) -> bytes:
        """So many bytes."""
        self.at += length
        return self.data[self.at - length:self.at]

    def short(self) -> bytes:
        """A short string."""
        return self.raw(self.take("B"))

    def long(self) -> bytes:
        """A long string."""
        return self.raw(self.take("I"))

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return self.at >= len(self.data)


def value(reader: Reader) -> object:
    """One field value; widths of numbers are forgotten, times become the word T."""
    tag = chr(reader.take("B"))
    numbers = {"b": "b", "B": "B", "s": "h", "u": "H", "I": "i", "i": "I", "l": "q", "L": "q",
               "f": "f", "d": "d"}
    if tag in numbers:
        return reader.take(numbers[tag])
    if tag == "t":
        return bool(reader.take("B"))
    if tag == "T":
        reader.take("Q")
        return "T"
    if tag == "S" or tag == "x":
        return reader.long().decode("latin-1")
    if tag == "F":
        return table(reader.long())
    if tag == "A":
        inner = Reader(reader.long())
        items = []
        while not inner.is_done:
            items.append(value(inner))
        return items
    if tag == "D":
        return (reader.take("B"), reader.take("i"))
    if tag == "V":
        return None
    raise ValueError(f"unknown field tag {tag!r}")


def table(data: bytes) -> dict[str, object]:
    """A field table; of two entries with one name the first counts."""
    reader, found = Reader(data), {}
    while not reader.is_done:
        name = reader.short().decode("latin-1")
        found.setdefault(name, value(reader))
    return found


def properties(data: bytes) -> dict[str, object]:
    """A property list by names."""
    names = ("content_type", "content_encoding", "headers", "delivery_mode", "priority",
             "correlation_id", "reply_to", "expiration", "message_id", "timestamp", "type",
             "user_id", "app_id", "cluster_id")
    reader = Reader(data)
    flags, found = reader.take("H"), {}
    for number, name in enumerate(names):
        if not flags & (1 << (15 - number)):
            continue
        if name == "headers":
            found[name] = table(reader.long())
        elif name in ("delivery_mode", "priority"):
            found[name] = reader.take("B")
        elif name == "timestamp":
            found[name] = reader.take("Q")
        else:
            found[name] = reader.short().decode("latin-1")
    return found


class Peer:
    """A connection whose login is done. `events` collects what came, by channel."""

    def __init__(self, port: int) -> None:
        """Connect, log in as guest, open `/`."""
        raw = frames.Raw(port, LIMIT_S).to_open(heartbeat=0)
        self.socket: socket.socket = raw.socket
        self.buffer = raw.buffer
        self.events: dict[int, list[Event]] = {}
        self.partial: dict[int, Event] = {}
        self.is_closed = False

    def send(self, data: bytes) -> None:
        """Send everything; a closed connection shows when reading."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.is_closed = True

    def pump(self, limit_s: float = 0.0) -> bool:
        """Take in what has come, waiting up to `limit_s` for something; whether there was any."""
        if self.is_closed or not select.select([self.socket], [], [], limit_s)[0]:
            return False
        try:
            data = self.socket.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self.is_closed = True
            return False
        self.buffer += data
        while len(self.buffer) >= 7:
            kind, channel, size = struct.unpack(">BHI", self.buffer[:7])
            if len(self.buffer) < size + 8:
                break
            payload, self.buffer = self.buffer[7:7 + size], self.buffer[size + 8:]
            self._frame(kind, channel, payload)
        return True

    def _frame(self, kind: int, channel: int, payload: bytes) -> None:
        if kind == 1:
            event = Event(struct.unpack(">HH", payload[:4]), payload[4:])
            if event.verb in (DELIVER, RETURN, GET_OK):
                self.partial[channel] = event
            else:
                self.events.setdefault(channel, []).append(event)
        elif kind in (2, 3) and channel in self.partial:
            event = self.partial[channel]
            if kind == 2:
                event.missing = struct.unpack(">Q", payload[4:12])[0]
                event.properties = payload[12:]
            else:
                event.body += payload
                event.missing -= len(payload)
            if event.missing <= 0:
                self.events.setdefault(channel, []).append(self.partial.pop(channel))

    def take(self, channel: int) -> list[Event]:
        """What came on a channel since the last call."""
        return self.events.pop(channel, [])

    def await_any(self, channel: int, verbs: tuple[tuple[int, int], ...]) -> Event | None:
        """Wait until one of these came on the channel and take it out; `None`: the end."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            for on, wanted in ((channel, verbs), (0, (CONNECTION_CLOSE,))):
                for event in self.events.get(on, []):
                    if event.verb in wanted:
                        self.events[on].remove(event)
                        return event
            if self.is_closed:
                return None
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {verbs} on channel {channel} within {LIMIT_S} s")
            self.pump(0.5)

    def close(self) -> None:
        """Drop the connection."""
        self.socket.close()
        self.is_closed = True
