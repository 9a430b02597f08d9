"""The beanstalk protocol by hand: raw connections, whole answers, escapes, what is volatile.

What lives here: a socket that hides no byte, taking answers apart, and the normal form in which the
answers of two servers, or of two runs, can be compared. What does not: stories (record.py), test
cases, starting servers. Used by our own suites, the recorder and the comparison.
"""

from __future__ import annotations

import re
import socket
import struct
import time

LIMIT_S = 10.0
# Answers whose line ends in the size of a body that follows.
WITH_BODY = (b"OK", b"FOUND", b"RESERVED")
# Fields whose values depend on the clock, the machine or the process.
VOLATILE = (
    b"pid", b"version", b"rusage-utime", b"rusage-stime", b"uptime", b"hostname", b"os",
    b"platform", b"age", b"time-left", b"pause-time-left", b"binlog-records-written",
    b"binlog-max-size",
)
# The server's own id is of 16 hexadecimal digits; a job's id is a number and stays.
_VOLATILE = re.compile(rb"^(%s): .*$" % b"|".join(VOLATILE), re.M)
_SERVER_ID = re.compile(rb"^id: [0-9a-f]{16}$", re.M)
# beanstalkd quotes names in dictionaries since 1.13; Debian's 1.12 does not.
_UNQUOTED = re.compile(rb'^(name|tube): (?!")(.*)$', re.M)
_ESCAPES = {0x0D: "\\r", 0x0A: "\\n", 0x5C: "\\\\", 0x09: "\\t"}
_BACK = {"r": b"\r", "n": b"\n", "\\": b"\\", "t": b"\t"}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[rnt\\])")


def escaped(data: bytes) -> str:
    """Bytes as printable ASCII, with C's escapes."""
    return "".join(
        _ESCAPES.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}")
        for byte in data)


def unescaped(text: str) -> bytes:
    """The opposite of `escaped`."""
    found, at = b"", 0
    for match in _ESCAPE.finditer(text):
        found += text[at:match.start()].encode("ascii")
        word = match.group(1)
        found += bytes.fromhex(word[1:]) if word[0] == "x" else _BACK[word]
        at = match.end()
    return found + text[at:].encode("ascii")


def take_answer(buffer: bytes) -> tuple[bytes, bytes] | None:
    """The first whole answer of `buffer` and what is left; `None`: more bytes are needed."""
    end = buffer.find(b"\r\n")
    if end < 0:
        return None
    size = end + 2
    words = buffer[:end].split(b" ")
    if words[0] in WITH_BODY and len(words) > 1 and words[-1].isdigit():
        size += int(words[-1]) + 2
    return (buffer[:size], buffer[size:]) if len(buffer) >= size else None


def body_of(answer: bytes) -> bytes:
    """The body of an answer that has one, without its line end."""
    return answer[answer.index(b"\r\n") + 2:-2]


def fields(answer: bytes) -> dict[str, str]:
    """The dictionary of a stats answer, in the server's order, quotes taken off."""
    lines = body_of(answer).decode().splitlines()
    assert lines[0] == "---", answer
    pairs = (line.split(": ", 1) for line in lines[1:])
    return {key: value.removeprefix('"').removesuffix('"') for key, value in pairs}


def tubes(answer: bytes) -> list[str]:
    """The list of a list-tubes answer, in the server's order."""
    lines = body_of(answer).decode().splitlines()
    assert lines[0] == "---", answer
    return [line.removeprefix("- ") for line in lines[1:]]


def steady(answer: bytes) -> bytes:
    """An answer with what is volatile masked as `*`, in the form of beanstalkd 1.13.

    The size of a masked dictionary is volatile too; `take_answer` has already relied on it.
    """
    if not answer.startswith(b"OK ") or b": " not in answer:
        return answer
    body = _SERVER_ID.sub(b"id: *", _VOLATILE.sub(rb"\1: *", body_of(answer)))
    return b"OK *\r\n" + _UNQUOTED.sub(rb'\1: "\2"', body) + b"\r\n"


class Raw:
    """One connection."""

    def __init__(self, port: int, limit_s: float = LIMIT_S, receive_bytes: int = 0) -> None:
        """Connect; `receive_bytes` makes the receive buffer small."""
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(limit_s)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self) -> Raw:
        """For `with`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def send(self, data: bytes) -> bool:
        """Send everything; whether the server still took it."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def answer(self, limit_s: float = LIMIT_S) -> bytes:
        """The next whole answer, empty when the server has closed; fails when none comes."""
        deadline = time.monotonic() + limit_s
        while True:
            found = take_answer(self.buffer)
            if found:
                answer, self.buffer = found
                return answer
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data = self.socket.recv(1 << 16)
            except TimeoutError:
                raise AssertionError(f"no answer within {limit_s:g} s") from None
            except ConnectionError:
                return b""
            if not data:
                assert not self.buffer, f"closed within an answer: {self.buffer!r}"
                return b""
            self.buffer += data

    def answers(self, count: int, limit_s: float = LIMIT_S) -> list[bytes]:
        """So many answers."""
        return [self.answer(limit_s) for _ in range(count)]

    def ask(self, data: bytes, limit_s: float = LIMIT_S) -> bytes:
        """Send a command, with its line end added if it has none, and take its answer."""
        self.send(data if data.endswith(b"\r\n") else data + b"\r\n")
        return self.answer(limit_s)

    def put(self, body: bytes = b"x", pri: int = 0, delay: int = 0, ttr: int = 60) -> int:
        """Put a job; its id."""
        answer = self.ask(b"put %d %d %d %d\r\n%b\r\n" % (pri, delay, ttr, len(body), body))
        word, number = answer.split()
        assert word == b"INSERTED", answer
        return int(number)

    def stats(self, what: bytes = b"stats") -> dict[str, str]:
        """The dictionary that `stats`, `stats-job N` or `stats-tube T` is answered with."""
        return fields(self.ask(what))

    def says_nothing(self, quiet_s: float = 0.15) -> bool:
        """Whether nothing more comes for a while."""
        self.socket.settimeout(quiet_s)
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            return not self.buffer
        self.buffer += data
        return False

    def closes_within(self, limit_s: float) -> bool:
        """Whether the server closes the connection in time; what it says before is dropped."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                if not self.socket.recv(1 << 16):
                    return True
            except TimeoutError:
                return False
            except OSError:
                return True
        return False

    def end_sending(self) -> None:
        """Half-close: no more will be said from here."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End the connection by a reset, as a crashed machine's first packet does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """Close."""
        self.socket.close()
