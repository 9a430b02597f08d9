"""A client of the work API in a few lines: one HTTP call, JSON both ways.

What lives here: calls, and raw connections for what no HTTP library would send. What does not:
fixtures (conftest.py), cases (test_*.py).
"""

from __future__ import annotations

import http.client
import json
import socket
import urllib.parse
from dataclasses import dataclass


@dataclass
class Answer:
    """Status, headers and body of one response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The word of a failure."""
        return self.json["error"]["code"]


class Client:
    """Calls in one name; a connection for each."""

    def __init__(self, port: int, authorization: str = "", vhost: str = "") -> None:
        """Remember where and as whom."""
        self.port = port
        self.authorization = authorization
        self.vhost = vhost

    def call(self, method: str, path: str, body=None, headers=None, timeout: float = 30) -> Answer:
        """One call of a path below /work/v1; `body` is bytes or what becomes JSON."""
        if self.vhost:
            path += ("&" if "?" in path else "?") + "vhost=" + urllib.parse.quote(self.vhost, "")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        all_headers = dict(headers or {})
        if self.authorization:
            all_headers["Authorization"] = self.authorization
        target = path if path.startswith("/") else f"/work/v1/{path}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, target, body, all_headers)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def post(self, path: str, **body):
        """A call that must succeed; its JSON."""
        return self._good(self.call("POST", path, body))

    def get(self, path: str):
        """The same for GET."""
        return self._good(self.call("GET", path))

    @staticmethod
    def _good(answer: Answer):
        assert answer.status == 200, (answer.status, answer.body[:500])
        return answer.json

    def publish(self, queue: str, *items, **more) -> list[str]:
        """Publishes; every item must be accepted. Their ids."""
        answer = self.post("publish", queue=queue, items=list(items), **more)
        assert answer["accepted"] == len(items), answer
        return [item["id"] for item in answer["items"]]

    def claim(self, worker: str, *queues: str, **more) -> list[dict]:
        """Takes items."""
        return self.post("claim", worker=worker, queues=list(queues), **more)["items"]

    def outcomes(self, path: str, worker: str, *items: dict) -> list[str]:
        """What became of each item of a call about items."""
        answer = self.post(path, worker=worker, items=list(items))
        return [item.get("outcome") or item["error"]["code"] for item in answer["items"]]


def held(item: dict, **more) -> dict:
    """An item as its holder names it."""
    return {"id": item["id"], "attempt": item["attempt"], **more}


class Raw:
    """A connection on which any bytes can be sent."""

    def __init__(self, port: int) -> None:
        """Connect."""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)

    def send(self, data: bytes) -> bool:
        """Sends; false when the server has hung up."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def status(self) -> int:
        """The status of the next response; 0 when the server hung up without one."""
        data = b""
        try:
            while b"\r\n" not in data:
                piece = self.socket.recv(4096)
                if not piece:
                    break
                data += piece
        except OSError:
            pass
        parts = data.split(b" ", 2)
        return int(parts[1]) if data.startswith(b"HTTP/1.1 ") else 0

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def __enter__(self) -> Raw:
        """Itself."""
        return self

    def __exit__(self, *_) -> None:
        """Hang up."""
        self.close()
