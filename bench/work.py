#!/usr/bin/env python3
"""The work API over HTTP: prompts accepted, items completed, workers that wait.

Starts a server of its own on loopback, needs nothing but Python, ends by itself:

    python3 bench/work.py --binary target/release/potager --markdown out.md

| measured | how |
|---|---|
| accepted | 28,000 prompts of 200 bytes in three calls, until the last answer (durable) |
| completed | `--workers` processes, each claims 500 and completes 100 per call: acknowledgement, a result of 1 KiB, one item published, each one commit |
| waiting | resident memory of the server with 1,000 workers in a long poll, over that of the idle server |
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import pathlib
import socket
import subprocess
import tempfile
import time

PROMPTS = 28_000
WAITING = 1_000
PER_CALL = 100


def call(connection, path, body):
    """One POST with a JSON object; the answer as an object."""
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    if response.status != 200:
        raise SystemExit(f"{path}: {response.status} {text[:300]!r}")
    return json.loads(text)


def connect(port):
    """A connection that is kept."""
    return http.client.HTTPConnection("127.0.0.1", port, timeout=120)


def accept(port):
    """Seconds until 28,000 prompts are durable, and of those the client's own for JSON."""
    connection = connect(port)
    prompt = "Say in one sentence what a kitchen garden is good for. " * 4
    items = [{"key": f"run-1/{n}", "body": {"prompt": prompt[:180], "n": n}} for n in range(PROMPTS)]
    bodies = [json.dumps({"queue": "prompts", "items": items[at:at + 10_000]}).encode()
              for at in range(0, PROMPTS, 10_000)]
    begin = time.perf_counter()
    accepted = 0
    for body in bodies:
        connection.request("POST", "/work/v1/publish", body, {"Content-Type": "application/json"})
        answer = connection.getresponse().read()
        accepted += int(answer.split(b'"accepted":')[1].split(b",")[0])
    seconds = time.perf_counter() - begin
    if accepted != PROMPTS:
        raise SystemExit(f"only {accepted} of {PROMPTS} prompts were accepted")
    return seconds


def complete(port, name, finished):
    """Works until nothing is left."""
    connection = connect(port)
    result = json.dumps({"text": "x" * 1000})
    done = 0
    while True:
        claim = {"worker": name, "queues": ["prompts"], "most": 500, "lease_s": 60}
        items = call(connection, "/work/v1/claim", claim)["items"]
        if not items:
            break
        for at in range(0, len(items), PER_CALL):
            part = items[at:at + PER_CALL]
            text = ",".join(
                '{"id":"%s","attempt":%d,"result":{"key":"%s","body":%s},"publish":[{"queue":"next","text":"%s"}]}'
                % (item["id"], item["attempt"], item["key"], result, item["key"]) for item in part)
            body = '{"worker":"%s","items":[%s]}' % (name, text)
            connection.request("POST", "/work/v1/complete", body,
                               {"Content-Type": "application/json"})
            answer = connection.getresponse().read()
            if answer.count(b'"done"') != len(part):
                raise SystemExit(f"not all were completed: {answer[:300]!r}")
            done += len(part)
    finished.put(done)


def resident_kib(pid):
    """Resident memory of a process."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise SystemExit("the server is gone")


def processor_s(pid):
    """Processor seconds of a process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait(port, pid):
    """KiB of a thousand workers in a long poll."""
    before = resident_kib(pid)
    polls = []
    for number in range(WAITING):
        poll = socket.create_connection(("127.0.0.1", port))
        body = json.dumps({"worker": f"idle-{number}", "queues": ["nothing"], "wait_s": 60})
        head = f"POST /work/v1/claim HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        poll.sendall((head + body).encode())
        polls.append(poll)
    time.sleep(3)
    kib = resident_kib(pid) - before
    for poll in polls:
        poll.close()
    return kib


def main():
    """Start the server, measure, stop it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/potager")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--markdown", type=pathlib.Path)
    options = parser.parse_args()
    rows = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="bench-work-") as room:
            ready = pathlib.Path(room) / "ready"
            server = subprocess.Popen(
                [options.binary, "serve", "--data-dir", f"{room}/data", "--amqp", "off", "--beanstalk",
                 "off", "--http", "127.0.0.1:0", "--ready-file", str(ready)],
                stderr=subprocess.DEVNULL)
            try:
                while not ready.exists():
                    time.sleep(0.01)
                port = int(json.loads(ready.read_text())["http"].rsplit(":", 1)[1])
                rows.append(measure(port, server.pid, options.workers))
            finally:
                server.terminate()
                server.wait(20)
    lines = ["| round | 28,000 prompts accepted in | completed | server CPU per completion | 1,000 waiting workers |",
             "|---|---|---|---|---|"]
    for number, (seconds, rate, cpu_us, kib) in enumerate(rows, 1):
        lines.append(f"| {number} | {seconds:.2f} s | {rate:,.0f}/s | {cpu_us:.1f} us | {kib / 1024:.1f} MiB |")
    print("\n".join(lines))
    if options.markdown:
        options.markdown.write_text("\n".join(lines) + "\n")


def measure(port, pid, workers):
    """One round."""
    seconds = accept(port)
    finished = multiprocessing.Queue()
    used, begin = processor_s(pid), time.perf_counter()
    processes = [multiprocessing.Process(target=complete, args=(port, f"w{number}", finished))
                 for number in range(workers)]
    for process in processes:
        process.start()
    done = sum(finished.get() for _ in processes)
    taken = time.perf_counter() - begin
    cpu_us = (processor_s(pid) - used) / max(done, 1) * 1e6
    for process in processes:
        process.join()
    if done != PROMPTS:
        raise SystemExit(f"{done} of {PROMPTS} were completed")
    return seconds, done / taken, cpu_us, wait(port, pid)


if __name__ == "__main__":
    main()
