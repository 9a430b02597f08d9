"""Faults: clients that go away, servers that are restarted or killed between two calls.

What lives here: what a worker finds afterwards.
"""

from __future__ import annotations

import json
import time

import pytest

from client import Client, Raw, held


def request(path: str, body: dict) -> bytes:
    """A call as bytes."""
    text = json.dumps(body).encode()
    return (f"POST /work/v1/{path} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Length: {len(text)}\r\n\r\n").encode() + text


def test_a_client_that_goes_away_while_it_waits_takes_nothing(api, queue, worker, name):
    with_client = Raw(api.port)
    with_client.send(request("claim", {"worker": worker, "queues": [queue], "wait_s": 60}))
    time.sleep(0.5)
    with_client.close()
    time.sleep(0.5)
    api.publish(queue, {"text": "x"})
    [item] = api.claim(name("other"), queue, wait_s=5)
    assert item["attempt"] == 1


def test_many_waits_that_are_given_up(api, queue, worker):
    for _ in range(200):
        with Raw(api.port) as raw:
            raw.send(request("claim", {"worker": worker, "queues": [queue], "wait_s": 60}))
    time.sleep(0.5)
    api.publish(queue, {"text": "x"})
    assert len(api.claim(worker, queue, wait_s=5)) == 1


@pytest.mark.owns_server
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_worker_survives_a_restart_of_the_server(own_server, how):
    server = own_server()
    api = Client(server.port)
    numbers = api.publish("q", {"text": "1", "key": "k1"}, {"text": "2"}, {"text": "3"})
    items = api.claim("w", "q", most=2, lease_s=60)
    api.outcomes("complete", "w", held(items[0], result={"key": "k1", "body": {"done": 1}},
                                       publish=[{"queue": "next", "text": "4"}]))
    revision = api.get("changes")["revision"]
    if how == "kill":
        server.kill()
    else:
        server.stop()
    server.start()
    answer = api.post("renew", worker="w", items=[held(item) for item in items])
    assert [one["id"] for one in answer["held"]] == [numbers[1]]
    assert answer["lost"] == [numbers[0]]
    assert api.outcomes("complete", "w", held(items[0])) == ["done_before"]
    assert [item["text"] for item in api.claim("w2", "q", most=9)] == ["3"]
    assert [item["text"] for item in api.claim("w2", "next", most=9)] == ["4"]
    assert api.outcomes("complete", "w", held(items[1], result={"key": "k2", "text": "late"})) \
        == ["done"]
    assert api.get("results/k1")["body"] == {"done": 1}
    page = api.get(f"changes?after={revision}")
    assert [change["key"] for change in page["changes"]] == ["k2"]


@pytest.mark.owns_server
def test_failures_and_attempts_survive_a_kill(own_server):
    server = own_server()
    api = Client(server.port)
    [number] = api.publish("q", {"text": "x"})
    for _ in range(2):
        [item] = api.claim("w", "q")
        api.outcomes("fail", "w", held(item, **{"class": "c"}))
    server.kill()
    server.start()
    [item] = api.claim("w", "q")
    assert item["failures"] == 2
    assert api.outcomes("fail", "w", held(item)) == ["buried"]
    server.kill()
    server.start()
    job = api.get(f"jobs/{number}")
    assert (job["state"], job["failures"]) == ("buried", 3)


@pytest.mark.owns_server
def test_a_server_that_stops_ends_the_waits(own_server):
    server = own_server()
    with Raw(server.port) as raw:
        raw.send(request("claim", {"worker": "w", "queues": ["q"], "wait_s": 60}))
        time.sleep(0.5)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 8
        assert raw.status() in (0, 503)
