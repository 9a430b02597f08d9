"""Tokens: who gets in with which, and what they may do.

What lives here: logins of the work API. What does not: users of other doors.
"""

from __future__ import annotations

import base64
import json
import subprocess

import pytest

from client import Client
from conftest import BINARY

pytestmark = pytest.mark.owns_server


@pytest.fixture
def server(own_server):
    """A server of the test's own: a token changes who gets in."""
    return own_server()


@pytest.fixture
def tokens(server):
    """Runs `potager tokens`."""
    def run(*arguments: str) -> str:
        done = subprocess.run([BINARY, "tokens", *arguments, "--url", f"http://{server.http}"],
                              capture_output=True, text=True, timeout=30, check=True)
        return done.stdout.strip()

    return run


def test_local_programs_get_in_until_there_is_a_token(server, tokens):
    anybody = Client(server.port)
    assert anybody.get("queues")["queues"] == []
    token = tokens("add", "--name", "ops", "--may", "admin")
    assert token.startswith("pt_ops_")
    answer = anybody.call("GET", "queues")
    assert (answer.status, answer.code) == (401, "login")
    assert "Bearer" in answer.headers["WWW-Authenticate"]
    assert anybody.call("GET", "openapi.json").status == 200
    ops = Client(server.port, f"Bearer {token}")
    ops.publish("q", {"text": "x"})
    guest = Client(server.port, "Basic " + base64.b64encode(b"guest:guest").decode())
    assert guest.get("queues/q")["ready"] == 1
    for wrong in ("Bearer " + token[:-1], "Bearer pt_other_x", "Bearer nonsense", "Bearer ", "Odd x"):
        assert Client(server.port, wrong).call("GET", "queues").status == 401, wrong
    listed = [json.loads(line) for line in tokens("list", "--json").splitlines()]
    assert [row["name"] for row in listed] == ["ops"]
    tokens("revoke", "ops")
    assert ops.call("GET", "queues").status == 401
    log = (server.data_dir.parent / f"{server.data_dir.name}.log").read_text()
    assert token.rsplit("_", 1)[1] not in log


def test_a_token_may_what_was_said(server, tokens):
    def client(*arguments):
        return Client(server.port, "Bearer " + tokens("add", *arguments))

    upload = client("--name", "upload", "--may", "publish", "--queue", "^a$")
    gpu = client("--name", "gpu", "--may", "claim", "--queue", "^a$")
    report = client("--name", "report", "--may", "results")
    upload.publish("a", {"text": "x"})
    answer = upload.post("publish", queue="b", items=[{"text": "x"}])
    assert answer["items"][0]["error"]["code"] == "not_permitted"
    claim = {"worker": "w", "queues": ["a"]}
    assert upload.call("POST", "claim", claim).code == "not_permitted"
    assert report.call("POST", "claim", claim).code == "not_permitted"
    [item] = gpu.claim("w", "a")
    done = {"id": item["id"], "attempt": 1, "result": {"key": "k", "text": "y"}}
    assert gpu.outcomes("complete", "w", done) == ["done"]
    assert gpu.call("POST", "claim", {"worker": "w", "queues": ["b"]}).code == "not_permitted"
    assert gpu.post("publish", queue="a", items=[{"text": "x"}])["accepted"] == 0
    assert report.get("results/k")["text"] == "y"
    assert upload.call("GET", "results/k").code == "not_permitted"
    assert report.call("PUT", "results/k2", {"text": "z"}).status == 200


def test_two_users_with_one_worker_name_are_two_workers(server, tokens):
    one, other = (Client(server.port, "Bearer " + tokens("add", "--name", name, "--may", "admin"))
                  for name in ("one", "other"))
    one.publish("q", {"text": "x"})
    [item] = one.claim("w", "q")
    answer = other.post("renew", worker="w", items=[{"id": item["id"], "attempt": 1}])
    assert answer == {"held": [], "lost": [item["id"]]}
    assert other.outcomes("release", "w", {"id": item["id"], "attempt": 1}) == ["not_held"]
