"""greenstalk, unmodified: the server as a whole: its figures, drain mode, and beanstalkd's options.

What lives here: stats, SIGUSR1, SIGTERM, `-z`, `-l unix:`, `-v` and being called by another name.
What does not: jobs and tubes. The servers of these tests take beanstalkd's options: the original,
or `potager beanstalkd`.
"""

from __future__ import annotations

import re
import subprocess
import time

import greenstalk
import pytest
import yaml
from conftest import BINARY, KIND, drop_in
from greenstalk import Client, DrainingError, NotFoundError

import wire
from beanstalkd import Beanstalkd, installation

STATS = """current-jobs-urgent current-jobs-ready current-jobs-reserved current-jobs-delayed
current-jobs-buried cmd-put cmd-peek cmd-peek-ready cmd-peek-delayed cmd-peek-buried cmd-reserve
cmd-reserve-with-timeout cmd-delete cmd-release cmd-use cmd-watch cmd-ignore cmd-bury cmd-kick
cmd-touch cmd-stats cmd-stats-job cmd-stats-tube cmd-list-tubes cmd-list-tube-used
cmd-list-tubes-watched cmd-pause-tube job-timeouts total-jobs max-job-size current-tubes
current-connections current-producers current-workers current-waiting total-connections pid version
rusage-utime rusage-stime uptime binlog-oldest-index binlog-current-index binlog-records-migrated
binlog-records-written binlog-max-size draining id hostname os platform""".split()
COUNTED = {
    "put": "put 0 0 60 1\r\nx", "peek": "peek 1", "peek-ready": "peek-ready",
    "peek-delayed": "peek-delayed", "peek-buried": "peek-buried",
    "reserve-with-timeout": "reserve-with-timeout 0", "delete": "delete 0",
    "release": "release 0 0 0", "use": "use default", "watch": "watch default",
    "ignore": "ignore nobody", "bury": "bury 0 0", "kick": "kick 0", "touch": "touch 0",
    "stats-job": "stats-job 0", "stats-tube": "stats-tube default", "list-tubes": "list-tubes",
    "list-tube-used": "list-tube-used", "list-tubes-watched": "list-tubes-watched",
    "pause-tube": "pause-tube nobody 1",
}
MALFORMED = {
    "put": "put x", "peek": "peek x", "peek-ready": "peek-ready x", "delete": "delete x",
    "reserve": "reserve x", "release": "release 1 2", "use": "use -", "watch": "watch -",
    "ignore": "ignore -", "bury": "bury 1", "kick": "kick x", "touch": "touch x",
    "stats-job": "stats-job x", "stats-tube": "stats-tube -", "list-tubes": "list-tubes x",
    "list-tube-used": "list-tube-used x", "pause-tube": "pause-tube x",
}


def test_every_figure_in_its_order(raw):
    answer = raw().ask(b"stats")
    assert list(wire.fields(answer)) == STATS
    assert int(answer[3:answer.index(b"\r\n")]) == len(wire.body_of(answer))


def test_figures_are_plain_yaml(raw, client, tube):
    number, one = client.put(b"x"), raw()
    for what in (b"stats", b"stats-tube %b" % tube.encode(), b"stats-job %d" % number):
        answer = one.ask(what)
        loaded = yaml.safe_load(wire.body_of(answer))
        assert list(loaded) == list(wire.fields(answer))
    assert wire.fields(one.ask(b"stats"))["draining"] == "false"


@pytest.mark.potager_only("Debian's 1.12 quotes the version only; 1.13 all texts")
def test_texts_are_quoted(raw, client, tube):
    number, one = client.put(b"x"), raw()
    for what, keys in ((b"stats", ("version", "hostname", "os", "platform")),
                       (b"stats-tube %b" % tube.encode(), ("name",)),
                       (b"stats-job %d" % number, ("tube",))):
        body = wire.body_of(one.ask(what)).decode()
        for key in keys:
            assert re.search(rf'^{key}: ".*"$', body, re.M), f"{key} in {body}"


def test_the_forms_of_figures(client, pid_of_server):
    stats = client.stats()
    assert re.fullmatch(r"[0-9a-f]{16}", str(stats["id"]).zfill(16))
    for key in ("rusage-utime", "rusage-stime"):
        assert re.fullmatch(r"\d+\.\d{6}", stats[key])
    for key in STATS[:37] + ["uptime", "binlog-max-size"]:
        if key not in ("id",):
            assert isinstance(stats[key], int), key
    assert stats["max-job-size"] == 65535
    assert stats["pid"] == pid_of_server or not pid_of_server


@pytest.fixture
def pid_of_server():
    """The process of the shared server."""
    from conftest import PID

    return PID


@pytest.mark.owns_server
def test_each_command_is_counted(own_server):
    server = own_server()
    with wire.Raw(server.port) as raw:
        for name, command in COUNTED.items():
            before = raw.stats()
            raw.ask(command.encode())
            after = raw.stats()
            keys = [key for key in STATS if key.startswith("cmd-") and key != "cmd-stats"]
            changed = {key: int(after[key]) - int(before[key]) for key in keys
                       if after[key] != before[key]}
            assert changed == {f"cmd-{name}": 1}, name
            assert int(after["cmd-stats"]) - int(before["cmd-stats"]) == 1


@pytest.mark.owns_server
def test_malformed_commands_are_not_counted(own_server):
    server = own_server()
    with wire.Raw(server.port) as raw:
        before = raw.stats()
        for command in MALFORMED.values():
            assert raw.ask(command.encode()) == b"BAD_FORMAT\r\n", command
        after = raw.stats()
    steady = [key for key in STATS if key.startswith("cmd-") and key != "cmd-stats"]
    assert {key: after[key] for key in steady} == {key: before[key] for key in steady}


@pytest.mark.owns_server
def test_connections_producers_workers_waiting(own_server):
    server = own_server()

    def figures(raw):
        stats = raw.stats()
        return [int(stats[f"current-{key}"]) for key in (
            "connections", "producers", "workers", "waiting")]

    with wire.Raw(server.port) as raw:
        assert figures(raw) == [1, 0, 0, 0]
        producer, worker = wire.Raw(server.port), wire.Raw(server.port)
        assert producer.ask(b"put x") == b"BAD_FORMAT\r\n"
        assert figures(raw) == [3, 0, 0, 0]
        number = producer.put()
        worker.ask(b"reserve-job %d" % number)
        assert figures(raw) == [3, 1, 1, 0]
        worker.send(b"reserve\r\n")
        until(lambda: figures(raw) == [3, 1, 1, 1])
        worker.close()
        producer.close()
        until(lambda: figures(raw) == [1, 0, 0, 0])
        assert raw.stats()["total-connections"] >= "3"


def until(claim, limit_s: float = 10.0) -> None:
    """Wait until `claim()` holds."""
    deadline = time.monotonic() + limit_s
    while not claim():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


@pytest.mark.owns_server
def test_job_states_are_counted(own_server):
    server = own_server()
    with wire.Raw(server.port) as raw:
        numbers = [raw.put(pri=pri, delay=delay) for pri, delay in (
            (0, 0), (1023, 0), (1024, 0), (0, 100), (0, 100), (0, 0))]
        first = b"%d" % numbers[0]
        raw.ask(b"reserve")
        raw.ask(b"bury " + first + b" 0")
        raw.ask(b"reserve")
        stats = raw.stats()
        found = [int(stats[f"current-jobs-{key}"]) for key in (
            "urgent", "ready", "reserved", "delayed", "buried")]
        assert found == [1, 2, 1, 2, 1]
        assert stats["total-jobs"] == "6"
        raw.ask(b"delete " + first)
        assert raw.stats()["total-jobs"] == "6"


@pytest.mark.owns_server
def test_drain_mode(own_server):
    server = own_server()
    with Client(("127.0.0.1", server.port), encoding=None) as client:
        number = client.put(b"x")
        server.drain()
        until(lambda: client.stats()["draining"] == "true")
        with pytest.raises(DrainingError):
            client.put(b"y")
        with pytest.raises(greenstalk.JobTooBigError):
            client.put(b"y" * 65536)
        job = client.reserve(timeout=0)
        client.release(job)
        client.bury(client.reserve(timeout=0))
        assert client.kick(1) == 1
        client.delete(number)
        with Client(("127.0.0.1", server.port), encoding=None) as late:
            with pytest.raises(DrainingError):
                late.put(b"z")
    assert server.pid, "drain mode ends nothing"


@pytest.mark.owns_server
def test_sigterm_ends_the_server(own_server):
    server = own_server()
    with wire.Raw(server.port) as raw:
        raw.send(b"reserve\r\n")
        assert server.stop() in ((0,) if KIND == "potager" else (-15,))
        assert raw.closes_within(5)


@pytest.mark.owns_server
@pytest.mark.parametrize("limit", [10, 100_000])
def test_the_largest_job_is_an_option(own_server, limit):
    server = own_server("-z", str(limit))
    with Client(("127.0.0.1", server.port), encoding=None) as client:
        assert client.stats()["max-job-size"] == limit
        number = client.put(b"x" * limit)
        assert len(client.peek(number).body) == limit
        with pytest.raises(greenstalk.JobTooBigError):
            client.put(b"x" * (limit + 1))


@pytest.mark.owns_server
def test_options_may_be_glued(own_server):
    server = own_server("-Vz10")
    with Client(("127.0.0.1", server.port)) as client:
        assert client.stats()["max-job-size"] == 10


@pytest.mark.owns_server
def test_jobs_are_there_after_a_restart(own_server):
    server = own_server(keeps_log=True)
    with Client(("127.0.0.1", server.port), encoding=None, use="t", watch="t") as client:
        kept = {client.put(b"ready", priority=7): "ready",
                client.put(b"delayed", delay=1000): "delayed"}
        buried = client.put(b"buried", priority=1)
        client.bury(client.reserve(timeout=0), priority=3)
        kept[buried] = "buried"
        gone = client.put(b"gone", priority=2)
        client.delete(gone)
        reserved = client.put(b"reserved", priority=0)
        assert client.reserve(timeout=0).id == reserved
        kept[reserved] = "ready"
        last = max(kept)
    server.kill()
    server.start()
    with Client(("127.0.0.1", server.port), encoding=None, use="t", watch="t") as client:
        for number, state in kept.items():
            assert client.stats_job(number)["state"] == state
            assert client.stats_job(number)["tube"] == "t"
        assert client.stats_job(buried)["pri"] == 3
        assert client.stats_job(max(kept))["ttr"] == 60
        with pytest.raises(NotFoundError):
            client.peek(gone)
        assert client.put(b"next") > last
        assert client.reserve(timeout=0).id == reserved


@pytest.mark.owns_server
def test_a_unix_socket(tmp_path):
    path = tmp_path / "door"
    command = drop_in() or (installation(),)
    process = subprocess.Popen([*command, "-l", f"unix:{path}"], cwd=tmp_path,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    try:
        until(path.is_socket)
        until(lambda: _round_trip(str(path)))
    finally:
        process.terminate()
        process.wait(10)


def _round_trip(address: str) -> bool:
    try:
        with Client(address) as client:
            client.put("hello")
            return client.reserve(timeout=0).body == "hello"
    except ConnectionError:
        return False


@pytest.mark.owns_server
def test_a_restart_replaces_the_socket_of_a_killed_server(tmp_path):
    path = tmp_path / "door"
    command = drop_in() or (installation(),)
    for _ in range(2):
        process = subprocess.Popen([*command, "-l", f"unix:{path}"], cwd=tmp_path,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        try:
            until(lambda: path.is_socket() and _round_trip(str(path)))
        finally:
            process.kill()
            process.wait(10)


@pytest.mark.owns_server
def test_the_version(tmp_path):
    command = drop_in() or (installation(),)
    done = subprocess.run([*command, "-v"], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0
    assert re.match(r"(beanstalkd|potager) \d+\.\d+", done.stdout)


@pytest.mark.owns_server
@pytest.mark.parametrize("options", [("-x",), ("-z", "abc"), ("word",), ("-p",)],
                         ids=["flag", "size", "word", "missing"])
def test_wrong_options_are_refused(options):
    command = drop_in() or (installation(),)
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=20,
                          check=False)
    assert done.returncode != 0
    assert done.stderr


@pytest.mark.owns_server
@pytest.mark.potager_only("the original has no other name")
def test_called_by_a_link_of_its_name(tmp_path):
    link = tmp_path / "beanstalkd"
    link.symlink_to(BINARY)
    server = Beanstalkd(tmp_path / "data", command=(str(link),))
    server.start()
    try:
        with Client(("127.0.0.1", server.port)) as client:
            client.put("hello")
            assert client.reserve(timeout=0).body == "hello"
        assert server.stop() == 0
    finally:
        server.kill()
