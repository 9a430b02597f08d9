"""Canaries: secrets that nothing may ever repeat, in no log, answer, metric, file or process list.

What lives here: putting unique secrets into every place that takes one, at the most talkative log
level, then searching everything that came out. What does not: what a login may do (conformance).

A secret is searched for as it is and as programs print it: base64 at every alignment, hex,
percent-encoded, reversed, and as a list of numbers.

Promise: P20.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import amqp
import pika
from pika.exceptions import AMQPError

from rig.clients import parameters
from rig.node import Node
from rig.raw import frames
from rig.verdict import Verdict

PATHS = (
    "/metrics", "/metrics/detailed", "/health/live", "/health/ready", "/api/overview",
    "/api/whoami", "/api/queues", "/api/queues/%2f", "/api/queues/%2f/kept", "/api/exchanges",
    "/api/exchanges/%2f", "/api/bindings", "/api/bindings/%2f", "/api/consumers",
    "/api/connections", "/api/channels", "/api/vhosts", "/api/vhosts/%2f", "/api/users",
    "/api/users/by-file", "/api/users/by-http", "/api/permissions", "/api/topic-permissions",
    "/api/users/by-http/permissions", "/api/definitions", "/api/no-such-thing", "/",
)
COMMANDS = (
    ("queues", "list", "--json"), ("users", "list", "--json"), ("vhosts", "list", "--json"),
    ("permissions", "list", "--json"), ("config", "explain", "--json"), ("config", "explain"),
    ("version", "--json"),
)


class Canaries:
    """Secrets by where they were put in, and everything that came out."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.stem = f"Canary{secrets.token_hex(6)}"
        self.secrets: dict[str, str] = {}
        self.outputs: dict[str, bytes] = {}

    def new(self, where: str) -> str:
        """A fresh secret that cannot occur by chance."""
        secret = f"{self.stem}{secrets.token_hex(6)}"
        self.secrets[where] = secret
        return secret

    def keep(self, what: str, data: bytes | str) -> None:
        """Something the server or a command has said."""
        data = data.encode() if isinstance(data, str) else data
        self.outputs[what] = self.outputs.get(what, b"") + data

    def found(self) -> list[str]:
        """Which secret shows where."""
        # All secrets begin alike, so one look for the stem clears nearly every output.
        stems = [needle for _, needle in shapes(self.stem)]
        suspects = {what: data for what, data in self.outputs.items()
                    if any(stem in data for stem in stems)}
        return [f"{where} in {what} as {form}"
                for what, data in suspects.items()
                for where, secret in self.secrets.items()
                for form, needle in shapes(secret) if needle in data]


def shapes(secret: str) -> list[tuple[str, bytes]]:
    """How a secret may look in an output."""
    raw = secret.encode()
    found = [("text", raw), ("hex", raw.hex().encode()), ("reversed", raw[::-1]),
             ("percent", "".join(f"%{byte:02x}" for byte in raw).encode()),
             ("numbers", ", ".join(str(byte) for byte in raw).encode()),
             ("numbers", ",".join(str(byte) for byte in raw).encode())]
    for before in range(3):
        coded = base64.b64encode(b"x" * before + raw)
        # Characters at both ends depend on the neighbours.
        found.append(("base64", coded[4 if before else 0:-4]))
    return found


def run(options, verdict: Verdict) -> None:
    """Everything once with logs as JSON and once as text; then search."""
    kept = Canaries()
    for form in ("json", "text"):
        folder = options.folder / form
        folder.mkdir()
        Story(options.binary, folder, form, kept, verdict).tell()
    plant(kept, verdict)
    leaks = kept.found()
    verdict.none_of(leaks, "no secret shows anywhere")
    verdict.figure("secrets", len(kept.secrets))
    verdict.figure("outputs searched", len(kept.outputs))
    verdict.figure("bytes searched", sum(map(len, kept.outputs.values())))


def plant(kept: Canaries, verdict: Verdict) -> None:
    """The search itself must find what is there."""
    test = Canaries()
    secret = test.new("planted")
    test.keep("a basic login", base64.b64encode(f"somebody:{secret}".encode()))
    test.keep("a debug print", str(list(secret.encode())))
    test.keep("a log", f"x{secret}y")
    verdict.claim(len({line.split(" in ")[1] for line in test.found()}) == 3,
                  "the search finds planted secrets", test.found())
    logs = b"".join(data for what, data in kept.outputs.items() if what.startswith("log"))
    verdict.claim(b"DEBUG" in logs, "the log was talkative")
    verdict.claim(any(b"by-http" in data for data in kept.outputs.values()),
                  "names that are no secrets do show")


class Story:
    """One server that is told many secrets."""

    def __init__(self, binary: Path, folder: Path, form: str, kept: Canaries,
                 verdict: Verdict) -> None:
        """Starts nothing."""
        self.binary, self.folder, self.kept, self.verdict = binary, folder, kept, verdict
        self.form = form
        # A login may be made where none is needed, too.
        door = "required" if form == "json" else "off"
        self.node = Node(binary, folder / "data", folder, "--log-format", form,
                         "--log-level", "trace", "--set", f"beanstalk.login={door}")
        self.done = threading.Event()

    def tell(self) -> None:
        """The whole of it."""
        self.node.start()
        watcher = threading.Thread(target=self.watch, daemon=True)
        watcher.start()
        try:
            self.users()
            self.good_logins()
            self.bad_logins()
            self.tube_logins()
            self.wrong_requests()
            self.reads()
            self.node.kill()
            self.node.start()
            self.reads()
            self.kept.keep("exit", str(self.node.stop()))
            self.offline()
        finally:
            self.done.set()
            watcher.join(5)
            self.node.kill()
        self.kept.keep(f"log {self.form}", self.node.output.read_bytes())
        for path in sorted(self.node.data_dir.rglob("*")):
            if path.is_file():
                self.kept.keep(f"file {path.name}", path.read_bytes())

    def command(self, *words: str, stdin: str = "", where: str = "") -> int:
        """Run the binary; keep what it says."""
        done = subprocess.run(
            [str(self.binary), *words], input=stdin.encode(), capture_output=True, timeout=60,
            env={key: value for key, value in os.environ.items() if "POTAGER" not in key})
        name = where or "command " + " ".join(words[:2])
        self.kept.keep(name, done.stdout)
        self.kept.keep(name, done.stderr)
        return done.returncode

    def secret_file(self, where: str) -> Path:
        """A file with a new secret, as an operator has it."""
        path = self.folder / f"secret-{len(self.kept.secrets)}"
        path.write_text(self.kept.new(f"{self.form}: {where}") + "\n")
        path.chmod(0o600)
        return path

    def users(self) -> None:
        """Users by file, by pipe, by HTTP, and a changed password."""
        claim = self.verdict.claim
        self.address = ("--url", f"http://{self.node.http}")
        file = self.secret_file("password file of users add")
        claim(self.command("users", "add", "by-file", "--tags", "administrator",
                           "--password-file", str(file), *self.address) == 0,
              "users add takes a password from a file")
        pipe = self.kept.new(f"{self.form}: pipe of users add")
        claim(self.command("users", "add", "by-pipe", *self.address, stdin=pipe + "\n") == 0,
              "users add takes a password from a pipe")
        changed = self.secret_file("password file of users passwd")
        claim(self.command("users", "passwd", "by-pipe", "--password-file", str(changed),
                           *self.address) == 0, "users passwd takes a password from a file")
        claim(self.command("users", "list", "--json", "--user", "by-file",
                           "--user-password-file", str(file), *self.address) == 0,
              "a command logs in with a password from a file")
        self.password = self.kept.new(f"{self.form}: PUT of a user")
        answer = self.http("PUT", "/api/users/by-http",
                           {"password": self.password, "tags": "administrator"})
        claim(answer in (201, 204), "a user is made over HTTP", answer)
        self.http("PUT", "/api/permissions/%2f/by-http",
                  {"configure": ".*", "write": ".*", "read": ".*"})

    def good_logins(self) -> None:
        """PLAIN by pika, AMQPLAIN by py-amqp, a new secret in mid connection."""
        login = pika.PlainCredentials("by-http", self.password)
        with pika.BlockingConnection(parameters(self.node.port, credentials=login)) as link:
            channel = link.channel()
            channel.queue_declare("kept", durable=True)
            channel.basic_publish("", "kept", b"no secret", pika.BasicProperties(delivery_mode=2))
            update = self.kept.new(f"{self.form}: connection.update-secret")
            try:
                link.update_secret(update, "rotated")
            except (AMQPError, AttributeError):
                pass
            self.reads()
        raw = frames.Raw(self.node.port).to_start()
        raw.send(frames.start_ok("AMQPLAIN", amqplain("by-http", self.password)))
        raw.await_method(10, 30)
        raw.close()
        self.verdict.claim(True, "logins by PLAIN and AMQPLAIN are good")

    def bad_logins(self) -> None:
        """Wrong passwords at every door and with every mechanism; broken exchanges."""
        wrong = self.kept.new(f"{self.form}: wrong PLAIN")
        for name in ("by-http", "nobody"):
            login = pika.PlainCredentials(name, wrong)
            self.refused(lambda login=login: pika.BlockingConnection(
                parameters(self.node.port, credentials=login)))
        wrong = self.kept.new(f"{self.form}: wrong AMQPLAIN")
        self.refused(lambda: amqp.Connection(
            f"127.0.0.1:{self.node.port}", userid="by-http", password=wrong,
            login_method="AMQPLAIN").connect())
        for kind, response in (("no such mechanism", b"\0by-http\0%s"), ("SASL", b"by-http\0%s"),
                               ("SASL with more", b"\0by-http\0%s\0more")):
            secret = self.kept.new(f"{self.form}: {kind}").encode()
            mechanism = "CANARY-5" if kind == "no such mechanism" else "PLAIN"
            raw = frames.Raw(self.node.port, 5).to_start()
            raw.send(frames.start_ok(mechanism, response % secret))
            self.kept.keep(f"answer to {kind}", raw.outcome(probe=False) + getattr(raw, "text", ""))
            raw.close()
        self.http("GET", "/api/overview", login=("by-http", self.kept.new(
            f"{self.form}: wrong basic")))
        self.http("GET", "/api/overview", header="Bearer " + self.kept.new(f"{self.form}: bearer"))
        self.http("GET", "/api/overview", header="Basic " + self.kept.new(f"{self.form}: garbage"))
        url = f"amqp://by-http:{self.kept.new(f'{self.form}: URL')}@127.0.0.1:{self.node.port}"
        self.command("publish", "--url", url, "--queue", "kept", "x", where="publish, bad login")
        self.command("publish", "--url", url.replace("amqp:", "amqps:"), "--queue", "kept", "x",
                     where="publish, bad scheme")
        dead = url.rpartition(":")[0] + ":1"
        self.command("publish", "--url", dead, "--queue", "kept", "x", where="publish, no server")

    def refused(self, attempt) -> None:
        """Something that must not work; keep its words."""
        try:
            attempt()
        except (AMQPError, amqp.exceptions.AMQPError, OSError) as error:
            self.kept.keep("words of refused logins", repr(error))
        else:
            self.verdict.claim(False, "a wrong password is refused")

    def tube_logins(self) -> None:
        """The beanstalk door's `login` line: good, wrong, and broken in every way."""
        said = self.tube_login("good", f"login by-http {self.password}\r\n"
                               "list-tube-used\r\nstats\r\n")
        self.verdict.claim(b"LOGGED_IN\r\nUSING default\r\nOK " in said,
                           "a login at the beanstalk door is good", said[:40])
        for kind, line in (
                ("wrong", "login by-http %s\r\n"), ("unknown user", "login nobody %s\r\n"),
                ("spaces", "login by-http a %s with spaces\r\n"), ("no user", "login %s\r\n"),
                ("no end of line", "login by-http %s"), ("no CR", "login by-http %s\n"),
                ("misspelt", "logon by-http %s\r\n"), ("upper case", "LOGIN by-http %s\r\n"),
                ("too long", "login by-http %s" + "x" * 300 + "\r\n"),
                ("a NUL", "login by-http %s\0\r\n"), ("no UTF-8", "login by-http %s\xff\r\n"),
                ("second", f"login by-http {self.password}\r\nlogin by-http %s\r\nstats\r\n")):
            self.tube_login(kind, line % self.kept.new(f"{self.form}: beanstalk login, {kind}"))

    def tube_login(self, kind: str, words: str) -> bytes:
        """Say something to the beanstalk door and keep all that it answers."""
        said = b""
        with socket.create_connection(("127.0.0.1", self.node.tube_port), 5) as link:
            try:
                link.sendall(words.encode("latin-1"))
                link.shutdown(socket.SHUT_WR)
                while more := link.recv(1 << 16):
                    said += more
            except ConnectionError:
                pass
        self.kept.keep(f"answer to a beanstalk login, {kind}", said)
        return said

    def wrong_requests(self) -> None:
        """Requests that fail with a secret in them."""
        name = f"{self.form}: "
        bodies = (
            json.dumps({"password": self.kept.new(name + "unknown tag"), "tags": "no-such-tag"}),
            json.dumps({"password_hash": self.kept.new(name + "password_hash")}),
            '{"password": "' + self.kept.new(name + "broken JSON"),
            json.dumps({"password": [self.kept.new(name + "wrong type")]}),
            json.dumps({"pasword": self.kept.new(name + "misspelt key"), "tags": ""}),
            json.dumps({"password": self.kept.new(name + "too long") * 100, "tags": ""}),
        )
        for body in bodies:
            self.http("PUT", "/api/users/wrong", body)
        token = self.kept.new(name + "query string")
        self.http("GET", f"/api/overview?token={token}")
        self.http("PUT", "/api/users/wrong", {"password": self.kept.new(name + "not allowed")},
                  login=("by-pipe", "wrong"))

    def http(self, method: str, path: str, body=None, login=("guest", "guest"),
             header: str = "") -> int:
        """One request; keep the answer, its headers too."""
        data = body if isinstance(body, str) else json.dumps(body) if body else ""
        request = urllib.request.Request(f"http://{self.node.http}{path}", method=method,
                                         data=data.encode() or None)
        basic = base64.b64encode(":".join(login).encode()).decode()
        request.add_header("Authorization", header or f"Basic {basic}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                status, text, fields = answer.status, answer.read(), str(answer.headers)
        except urllib.error.HTTPError as error:
            status, text, fields = error.code, error.read(), str(error.headers)
        self.kept.keep(f"{method} {urllib.parse.urlsplit(path).path}", text + fields.encode())
        return status

    def reads(self) -> None:
        """Everything that can be looked at, while users and connections are there."""
        for path in PATHS:
            self.http("GET", path)
        for words in COMMANDS:
            more = () if words[0] in ("config", "version") else self.address
            self.command(*words, *more)

    def offline(self) -> None:
        """The same commands on the data of a stopped server."""
        data = ("--data-dir", str(self.node.data_dir))
        file = self.secret_file("offline users add")
        self.verdict.claim(self.command("users", "add", "offline", "--password-file", str(file),
                                        *data) == 0, "users add works on a stopped server")
        self.command("users", "list", "--json", *data)

    def watch(self) -> None:
        """Look at the command line and environment of the server and of every command of ours."""
        while not self.done.wait(0.01):
            for entry in Path("/proc").glob("[0-9]*"):
                try:
                    line = (entry / "cmdline").read_bytes()
                    # A URL with a password in it is the caller's own doing.
                    if str(self.binary).encode() in line and b"--url\0amqp" not in line:
                        self.kept.outputs[f"cmdline of {entry.name} {self.form}"] = line
                        self.kept.outputs[f"environ of {entry.name} {self.form}"] = (
                            entry / "environ").read_bytes()
                except OSError:
                    continue
            time.sleep(0.01)


def amqplain(name: str, password: str) -> bytes:
    """The response of AMQPLAIN: a table without its length."""
    return frames.table(("LOGIN", b"S" + frames.long(name)),
                        ("PASSWORD", b"S" + frames.long(password)))[4:]
