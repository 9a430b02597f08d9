"""Servers with TLS, and clients that trust them: what the tests of TLS share.

What lives here: `TlsServer` and fixtures. What does not: any test (test_tls.py), making
certificates (certificates.py). A pytest plugin, named by conftest.py.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import ssl
import urllib.request
from pathlib import Path

import pika
import pytest

from certificates import Authority
from harness.server import Potager

GUEST = base64.b64encode(b"guest:guest").decode()


class TlsServer:
    """A server with TLS on both doors, and its files."""

    def __init__(self, folder: Path, authority: Authority, *extra: str) -> None:
        """Start it."""
        self.authority = authority
        self.certificate, self.key = authority.server()
        self.server = Potager(Path(os.environ["CONFORMANCE_BINARY"]), folder / "data", (
            "--amqps", "127.0.0.1:0", "--https", "127.0.0.1:0",
            "--set", f"tls.certificate_file={self.certificate}",
            "--set", f"tls.key_file={self.key}", *extra))
        self.server.start()
        doors = json.loads((folder / "data.ready").read_text())
        self.port, self.https = (int(doors[door].rsplit(":", 1)[1]) for door in ("amqps", "https"))
        self._log = folder / "data.log"

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text()

    def context(self, client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """A client's side that trusts the authority."""
        context = ssl.create_default_context(cafile=self.authority.path)
        if client:
            context.load_cert_chain(*client)
        return context

    def connect(self, client=None, context=None, **more) -> pika.BlockingConnection:
        """An AMQP connection over TLS."""
        from conftest import parameters

        options = pika.SSLOptions(context or self.context(client), "localhost")
        return pika.BlockingConnection(parameters(self.port, ssl_options=options, **more))

    def raw(self, context=None) -> ssl.SSLSocket:
        """A TLS session without AMQP."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=15)
        return (context or self.context()).wrap_socket(plain, server_hostname="localhost")

    def serial(self) -> int:
        """Which certificate a new connection sees."""
        with self.raw() as session:
            return int(session.getpeercert()["serialNumber"], 16)

    def ask(self, path: str, method: str = "GET", body=None, login: str = GUEST) -> bytes:
        """Ask the HTTP door over TLS."""
        request = urllib.request.Request(
            f"https://localhost:{self.https}{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"})
        with urllib.request.urlopen(request, context=self.context(), timeout=15) as answer:
            return answer.read()

    def add_user(self, name: str) -> None:
        """A user with every right."""
        self.ask(f"/api/users/{name}", "PUT", {"password": "not-used-here", "tags": ""})
        self.ask(f"/api/permissions/%2f/{name}", "PUT",
                 {"configure": ".*", "write": ".*", "read": ".*"})

    def hang_up(self) -> None:
        """Ask it to read everything again."""
        self.server.process.send_signal(signal.SIGHUP)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Who signs the server's certificate."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def tls_server(tmp_path, authority):
    """Makes servers with TLS."""
    made = []

    def make(*extra: str) -> TlsServer:
        made.append(TlsServer(tmp_path / f"server{len(made)}", authority, *extra))
        return made[-1]

    yield make
    for one in made:
        one.server.kill()


@pytest.fixture(scope="module")
def shared(tmp_path_factory, authority):
    """A server with TLS for tests that change nothing."""
    one = TlsServer(tmp_path_factory.mktemp("shared"), authority, "--log-level", "debug")
    yield one
    one.server.kill()


@pytest.fixture
def mutual(tls_server, tmp_path):
    """A server that demands certificates, and who signs them."""
    clients = Authority(tmp_path / "clients", "clients' authority")
    server = tls_server("--set", "tls.client_certificates=required",
                        "--set", f"tls.client_ca_file={clients.path}")
    return server, clients
