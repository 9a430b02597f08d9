"""Raw AMQP 0-9-1: bytes by hand, so that a test can send what no client library would.

What lives here: encoders, and `Raw`, one socket with a handshake and a reading of what came
back. What does not: the hostile inputs themselves (test_hostile*.py). Source of layouts: AMQP
0-9-1 4.2.3 (frames), 4.2.5 (fields), 2.3.5.2 (content header).
"""

from __future__ import annotations

import socket
import struct
import time

HEADER = b"AMQP\x00\x00\x09\x01"
END = b"\xce"
READ_LIMIT_S = 15.0


def frame(kind: int, channel: int, payload: bytes, end: bytes = END) -> bytes:
    """One frame: type u8, channel u16, size u32, payload, end."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


def method(channel: int, class_id: int, method_id: int, arguments: bytes = b"") -> bytes:
    """A method frame."""
    return frame(1, channel, struct.pack(">HH", class_id, method_id) + arguments)


def header(channel: int, size: int, flags: int = 0, fields: bytes = b"", class_id: int = 60,
           weight: int = 0) -> bytes:
    """A content header frame."""
    return frame(2, channel, struct.pack(">HHQH", class_id, weight, size, flags) + fields)


def body(channel: int, data: bytes) -> bytes:
    """A body frame."""
    return frame(3, channel, data)


def short(text: str | bytes) -> bytes:
    """A short string."""
    data = text.encode() if isinstance(text, str) else text
    return bytes([len(data)]) + data


def long(data: str | bytes) -> bytes:
    """A long string."""
    data = data.encode() if isinstance(data, str) else data
    return struct.pack(">I", len(data)) + data


def table(*pairs: tuple[str, bytes]) -> bytes:
    """A field table; each value comes with its tag."""
    return long(b"".join(short(key) + value for key, value in pairs))


def nested(depth: int, array: bool = False) -> bytes:
    """A table (or array) `depth` levels deep, built without recursion."""
    inner = b""
    for _ in range(depth):
        inner = (b"A" if array else b"\x01kF") + struct.pack(">I", len(inner)) + inner
    return (b"\x01kA" + long(inner)) if array else inner


def declare(queue: str | bytes, arguments: bytes = table(), bits: int = 0b100,
            channel: int = 1) -> bytes:
    """queue.declare; bits: 1 passive, 2 durable, 4 exclusive, 8 auto-delete, 16 no-wait."""
    return method(channel, 50, 10, struct.pack(">H", 0) + short(queue) + bytes([bits]) + arguments)


def exchange_declare(name: str | bytes, kind: str = "direct", arguments: bytes = table(),
                     bits: int = 0, channel: int = 1) -> bytes:
    """exchange.declare; bits: 1 passive, 2 durable, 4 auto-delete, 8 internal, 16 no-wait."""
    return method(channel, 40, 10, struct.pack(">H", 0) + short(name) + short(kind)
                  + bytes([bits]) + arguments)


def bind(queue: str, exchange: str, key: bytes | str = "", arguments: bytes = table()) -> bytes:
    """queue.bind on channel 1."""
    return method(1, 50, 20, struct.pack(">H", 0) + short(queue) + short(exchange) + short(key)
                  + b"\x00" + arguments)


def exchange_bind(destination: str, source: str, key: str = "") -> bytes:
    """exchange.bind on channel 1."""
    return method(1, 40, 30, struct.pack(">H", 0) + short(destination) + short(source)
                  + short(key) + b"\x00" + table())


def publish(key: bytes | str, data: bytes = b"x", exchange: str = "", bits: int = 0,
            flags: int = 0, fields: bytes = b"", channel: int = 1) -> bytes:
    """basic.publish with its content in one body frame."""
    return (publish_method(key, exchange, bits, channel)
            + header(channel, len(data), flags, fields) + (body(channel, data) if data else b""))


def publish_method(key: bytes | str, exchange: str = "", bits: int = 0, channel: int = 1) -> bytes:
    """basic.publish without its content."""
    return method(channel, 60, 40,
                  struct.pack(">H", 0) + short(exchange) + short(key) + bytes([bits]))


def consume(queue: str, tag: str = "", bits: int = 0, arguments: bytes = table()) -> bytes:
    """basic.consume on channel 1; bits: 1 no-local, 2 no-ack, 4 exclusive, 8 no-wait."""
    return method(1, 60, 20, struct.pack(">H", 0) + short(queue) + short(tag) + bytes([bits])
                  + arguments)


def get(queue: str, no_ack: bool = False) -> bytes:
    """basic.get on channel 1."""
    return method(1, 60, 70, struct.pack(">H", 0) + short(queue) + bytes([no_ack]))


def ack(tag: int, multiple: bool = False, channel: int = 1) -> bytes:
    """basic.ack."""
    return method(channel, 60, 80, struct.pack(">QB", tag, multiple))


def nack(tag: int, bits: int = 0) -> bytes:
    """basic.nack on channel 1; bits: 1 multiple, 2 requeue."""
    return method(1, 60, 120, struct.pack(">QB", tag, bits))


def start_ok(mechanism: str = "PLAIN", response: bytes = b"\x00guest\x00guest",
             properties: bytes = table(("capabilities", b"F" + table(
                 ("authentication_failure_close", b"t\x01"), ("basic.nack", b"t\x01"))))) -> bytes:
    """connection.start-ok; the long-string response is given without its length."""
    return method(0, 10, 11, properties + short(mechanism) + long(response) + short("en_US"))


def tune_ok(channels: int = 2047, frame_max: int = 131072, heartbeat: int = 0) -> bytes:
    """connection.tune-ok."""
    return method(0, 10, 31, struct.pack(">HIH", channels, frame_max, heartbeat))


def connection_open(vhost: str = "/") -> bytes:
    """connection.open."""
    return method(0, 10, 40, short(vhost) + short("") + b"\x00")


CHANNEL_OPEN = method(1, 20, 10, short(""))
FLOW_ON = method(1, 20, 20, b"\x01")
PROBE = method(1, 40, 20, b"\x00\x00" + short("conf-never-declared") + b"\x00")
SELECT_CONFIRM = method(1, 85, 10, b"\x00")
SELECT_TX = method(1, 90, 10)
COMMIT = method(1, 90, 20)


class Raw:
    """One connection, up to the stage that a test asks for."""

    def __init__(self, port: int, limit_s: float = READ_LIMIT_S) -> None:
        """Connect; send nothing."""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=limit_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.seen: list[tuple[int, int]] = []
        self.contents: list[bytes] = []

    def send(self, data: bytes) -> bool:
        """Send everything; false when the server has closed in the meantime."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def read_frame(self) -> tuple[int, int, bytes] | None:
        """The next frame as (type, channel, payload); `None` when the server closed."""
        while True:
            if self.buffer[:4] == b"AMQP":
                return None
            if len(self.buffer) >= 7:
                kind, channel, size = struct.unpack(">BHI", self.buffer[:7])
                if len(self.buffer) >= size + 8:
                    payload, self.buffer = self.buffer[7:7 + size], self.buffer[size + 8:]
                    return kind, channel, payload
            try:
                data = self.socket.recv(1 << 16)
            except TimeoutError:
                raise
            except OSError:
                return None
            if not data:
                return None
            self.buffer += data

    def await_method(self, class_id: int, method_id: int) -> bytes:
        """Skip to a method and return its arguments."""
        while True:
            one = self.read_frame()
            assert one is not None, f"closed while waiting for {class_id}.{method_id}"
            if one[0] == 1:
                seen = struct.unpack(">HH", one[2][:4])
                assert seen != (10, 50), f"connection.close {one[2][4:]!r}"
                if seen == (class_id, method_id):
                    return one[2][4:]

    def to_start(self) -> Raw:
        """Header sent, connection.start read."""
        self.send(HEADER)
        self.await_method(10, 10)
        return self

    def to_tune(self) -> Raw:
        """Logged in as guest, connection.tune read."""
        self.to_start().send(start_ok())
        self.await_method(10, 30)
        return self

    def to_open(self, **tune: int) -> Raw:
        """The connection is open."""
        self.to_tune().send(tune_ok(**tune) + connection_open())
        self.await_method(10, 41)
        return self

    def to_channel(self, **tune: int) -> Raw:
        """Channel 1 is open."""
        self.to_open(**tune).send(CHANNEL_OPEN)
        self.await_method(20, 11)
        return self

    def outcome(self, probe: bool = True) -> str:
        """What became of it: closed, connection:CODE, channel:CODE, alive or silent.

        `probe` deletes an exchange that never was, on channel 1: the reply of this idempotent
        method proves that the channel lives and that everything before has been dealt with.
        """
        if probe:
            self.send(PROBE)
        deadline = time.monotonic() + READ_LIMIT_S
        try:
            while time.monotonic() < deadline:
                one = self.read_frame()
                if one is None:
                    return "closed"
                kind, _, payload = one
                if kind == 3:
                    self.contents.append(payload)
                if kind != 1:
                    continue
                verb = struct.unpack(">HH", payload[:4])
                self.seen.append(verb)
                if verb in ((10, 50), (20, 40)):
                    code = struct.unpack(">H", payload[4:6])[0]
                    self.text = payload[7:7 + payload[6]].decode(errors="replace")
                    return f"{'connection' if verb[0] == 10 else 'channel'}:{code}"
                if verb == (40, 21):
                    return "alive"
        except TimeoutError:
            pass
        return "silent"

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()
