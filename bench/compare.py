#!/usr/bin/env python3
"""Potager and Debian's RabbitMQ side by side in one run: the table of docs/performance.md.

What lives here: the rows, their order (A B A B, so that a neighbour's noise hits both) and the
medians. What does not: the load (`potager bench amqp`, clients.py), reading /proc (machine.py), the
life of a server (conformance/harness). Called by people:

    bench/compare.py --binary target/release/potager --json out.json --markdown out.md
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "conformance")]

import machine  # noqa: E402
import rows  # noqa: E402
from harness import environment  # noqa: E402
from harness.server import Potager, Server, answers_amqp, free_port  # noqa: E402
from rabbitmq import Rabbit  # noqa: E402

KINDS = ("rabbitmq", "potager")
# Part of the machine that others may use in a round.
OTHERS_MAX = 0.08


@dataclass
class Bench:
    """What a run needs to know."""

    binary: Path
    seconds: float
    warm_up: float
    python: Path
    folder: Path
    # How often a round that others disturbed is tried.
    tries: int
    # Row name -> server kind -> the figures of each round.
    found: dict[str, dict[str, list[dict]]] = field(default_factory=dict)

    def server(self, kind: str, name: str) -> Server:
        """A new server of a kind, not started, with a folder of its own."""
        folder = self.folder / f"{kind}-{name}"
        return Rabbit(folder) if kind == "rabbitmq" else Potager(self.binary, folder)

    def note(self, row: str, kind: str, figures: dict) -> None:
        """Keep one round's figures and show them."""
        self.found.setdefault(row, {}).setdefault(kind, []).append(figures)
        shown = {name: round(value, 2) for name, value in figures.items()
                 if isinstance(value, (int, float))}
        print(f"{row:<18} {kind:<9} {json.dumps(shown)}", flush=True)


def generator(bench: Bench, server: Server, row: rows.Row) -> dict:
    """One round of our own load generator."""
    command = [
        str(bench.binary), "bench", "amqp", "--json", "--url", server.url,
        "--seconds", str(bench.seconds), "--warm-up-seconds", str(bench.warm_up),
        "--dir", str(bench.folder), *row.arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"compare: {' '.join(command)} failed: {done.stderr}")
    report = json.loads(done.stdout)
    confirm = report["confirm_us"] or {}
    delivery = report["delivery_us"] or {}
    return {
        "per_s": report["speed"]["messages_per_s"],
        "server_us": (report["server_cpu"] or {}).get("us_per_message"),
        "client_us": report["client_cpu"]["us_per_message"],
        "p50_ms": (confirm or delivery).get("p50", 0) / 1e3,
        "p99_ms": (confirm or delivery).get("p99", 0) / 1e3,
        "p999_ms": (confirm or delivery).get("p999", 0) / 1e3,
        "rss_mb": (report["resident_bytes"] or [0, 0])[1] / 1e6,
        "flush_p50_us": report["disk"]["p50"], "flush_p99_us": report["disk"]["p99"],
    }


def client(bench: Bench, server: Server, row: rows.Row) -> dict:
    """One round of an unmodified Python client."""
    command = [str(bench.python), str(HERE / "clients.py"), row.name,
               f"127.0.0.1:{server.port}", str(bench.seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        if not run.stdout.readline():
            raise SystemExit(f"compare: {' '.join(command)} failed")
        before = machine.cpu_s(server.pid)
        run.stdin.write("\n")
        run.stdin.flush()
        answer = run.stdout.readline()
        spent = machine.cpu_s(server.pid) - before
    if not answer:
        raise SystemExit(f"compare: {' '.join(command)} failed")
    done = json.loads(answer)
    return {
        "per_s": done["messages"] / done["seconds"],
        "server_us": spent * 1e6 / done["messages"],
        "client_us": done["client_cpu_s"] * 1e6 / done["messages"],
    }


def flow(bench: Bench, chosen: list[rows.Row], rounds: int) -> None:
    """The rows with messages: both servers up, in turns."""
    servers = {kind: bench.server(kind, "flow") for kind in KINDS}
    try:
        for server in servers.values():
            server.start()
        for row in chosen:
            run = client if row.is_client else generator
            for _ in range(rounds):
                for kind, server in servers.items():
                    figures = undisturbed(bench, servers, lambda: run(bench, server, row))
                    bench.note(row.name, kind, figures)
    finally:
        for server in servers.values():
            server.kill()


def undisturbed(bench: Bench, servers: dict[str, Server], run) -> dict:
    """One round; again when others used too much of the machine, keeping the calmest."""
    best: dict = {}
    for _ in range(bench.tries):
        for server in servers.values():
            machine.await_quiet(server.pid)
        others = machine.Others([server.pid for server in servers.values()])
        figures = {**run(), "others": others.share()}
        if not best or figures["others"] < best["others"]:
            best = figures
        if best["others"] <= OTHERS_MAX:
            break
    return best


def start_and_idle(bench: Bench, rounds: int) -> None:
    """From starting an empty server to its first answer, and its memory when idle."""
    for turn in range(rounds):
        for kind in KINDS:
            server = bench.server(kind, f"start-{turn}")
            first_ms = first_answer_ms(server)
            time.sleep(3)
            machine.await_quiet(server.pid)
            idle_mb = machine.rss_bytes(server.pid) / 1e6
            server.kill()
            bench.note("start", kind, {"ms": first_ms})
            bench.note("idle-memory", kind, {"mb": idle_mb})


def first_answer_ms(server: Server) -> float:
    """Start a server; the time until it answers the protocol header."""
    server.port = free_port()
    starting = threading.Thread(target=server.start)
    began = time.monotonic()
    starting.start()
    while not answers_amqp(server.port):
        if not starting.is_alive() and not server.pid:
            raise SystemExit(f"compare: {server.kind} did not start")
        time.sleep(0.0005)
    took = time.monotonic() - began
    starting.join()
    return took * 1e3


def footprint(bench: Bench, row: rows.Row) -> None:
    """Memory for many idle things, each in a server of its own."""
    for kind in KINDS:
        server = bench.server(kind, row.name)
        server.start()
        machine.await_quiet(server.pid)
        arguments = row.for_kind(kind)
        command = [str(bench.binary), "bench", "amqp", "--json", "--url", server.url, *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        finally:
            server.kill()
        if done.returncode:
            raise SystemExit(f"compare: {' '.join(command)} failed: {done.stderr}")
        report = json.loads(done.stdout)
        sizes, (before, after) = report["sizes"], report["resident_bytes"]
        bench.note(row.name, kind, {
            "count": sizes["count"], "bytes_each": sizes["bytes_each"],
            "mb": (after - before) / 1e6, "per_s": sizes["per_s"],
            "idle_share": report["idle_cpu_share"] or 0.0,
        })


def medians(bench: Bench) -> dict:
    """Row -> kind -> figure -> median, least, most."""
    summary: dict = {}
    for row, kinds in bench.found.items():
        for kind, turns in kinds.items():
            names = {name for turn in turns for name, value in turn.items() if value is not None}
            for name in sorted(names):
                values = [turn[name] for turn in turns if turn.get(name) is not None]
                summary.setdefault(row, {}).setdefault(kind, {})[name] = {
                    "median": statistics.median(values), "least": min(values), "most": max(values),
                }
    return summary


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, required=True, help="a release build of potager")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per row, default 5")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each round, default 20")
    parser.add_argument("--warm-up", type=float, default=5.0, help="seconds before, default 5")
    parser.add_argument("--only", action="append", default=[], help="only this row (repeat)")
    parser.add_argument("--tries", type=int, default=3,
                        help="of a round that other work on the machine disturbed, default 3")
    parser.add_argument("--nice", type=int, default=0,
                        help="priority of both servers and all clients; below 0 needs root and "
                             "keeps a busy machine's other work out of the figures")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--markdown", type=Path, help="write the table there")
    return parser.parse_args()


def main() -> int:
    """Run the chosen rows and write the table."""
    chosen = arguments()
    os.nice(chosen.nice)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wants = lambda name: not chosen.only or name in chosen.only  # noqa: E731
    with tempfile.TemporaryDirectory(prefix="potager-compare-") as folder:
        bench = Bench(chosen.binary.resolve(), chosen.seconds, chosen.warm_up,
                      environment.venv_python(), Path(folder), chosen.tries)
        print(machine.describe(), f"load {machine.load():.2f}", flush=True)
        flowing = [row for row in rows.FLOW if wants(row.name)]
        if flowing:
            flow(bench, flowing, chosen.rounds)
        if wants("start") or wants("idle-memory"):
            start_and_idle(bench, chosen.rounds)
        for row in rows.FOOTPRINT:
            if wants(row.name):
                footprint(bench, row)
    summary = medians(bench)
    table = rows.markdown(summary)
    result = {"machine": machine.describe(), "rounds": chosen.rounds, "seconds": chosen.seconds,
              "summary": summary, "turns": bench.found}
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1))
    if chosen.markdown:
        chosen.markdown.write_text(table)
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
