#!/usr/bin/env python3
"""Potager and Debian's beanstalkd side by side in one run, the same load on each.

What lives here: the servers, the rows, their order (A B C D A B C D, so that a neighbour's noise
hits all) and the table. What does not: the load (`potager bench beanstalk`) and reading /proc
(machine.py). Called by people:

    bench/compare_beanstalk.py --binary target/release/potager --markdown out.md

beanstalkd runs in memory, with a log that is synced at most every 50 ms (its default), and with one
that is synced at every write; Potager as its drop-in with a log, which is always synced.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import machine  # noqa: E402

START_LIMIT_S = 120.0
# Potager gives memory of a burst back when nothing happened for a while, in two or three steps.
IDLE_S = 30.0
TUBE = "backlog"


@dataclass(frozen=True)
class Kind:
    """One way to run a server; `log` are its arguments beside the directory, None is no log."""

    name: str
    title: str
    log: tuple[str, ...] | None
    is_potager: bool = False
    # Whether a backlog is laid on it; one of the two logs of beanstalkd is enough, and quicker.
    has_backlog: bool = True


KINDS = (
    Kind("memory", "beanstalkd, no log", None),
    Kind("f50", "beanstalkd -f50", ("-f50",)),
    Kind("f0", "beanstalkd -f0", ("-f0",), has_backlog=False),
    Kind("potager", "Potager, every put synced", (), is_potager=True),
)


@dataclass(frozen=True)
class Row:
    """One load."""

    name: str
    title: str
    clients: int
    pipeline: int


ROWS = (
    Row("pipelined-100", "1 client, 100 at a time", 1, 100),
    Row("pipelined-10", "1 client, 10 at a time", 1, 10),
    Row("one", "1 client, one at a time", 1, 1),
    Row("fifty", "50 clients, one at a time", 50, 1),
)


@dataclass
class Bench:
    """What a run needs to know, and what it found: row -> kind -> figures of each round."""

    binary: Path
    beanstalkd: str
    seconds: float
    jobs: int
    size: int
    folder: Path
    found: dict[str, dict[str, list[dict]]] = field(default_factory=dict)

    def note(self, row: str, kind: Kind, figures: dict) -> None:
        """Keep one round's figures and show them."""
        self.found.setdefault(row, {}).setdefault(kind.name, []).append(figures)
        shown = {name: round(value, 2) for name, value in figures.items()}
        print(f"{row:<14} {kind.name:<8} {json.dumps(shown)}", flush=True)


class Server:
    """A server of one kind at a port of its own."""

    def __init__(self, bench: Bench, kind: Kind, name: str) -> None:
        """Prepare; starts nothing."""
        self.kind = kind
        self.folder = bench.folder / f"{kind.name}-{name}"
        self.folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        program = [str(bench.binary), "beanstalkd"] if kind.is_potager else [bench.beanstalkd]
        log = [] if kind.log is None else ["-b", str(self.folder), *kind.log]
        self.command = [*program, "-l", "127.0.0.1", "-p", str(self.port), *log]
        self.process: subprocess.Popen | None = None

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self.process.pid if self.process else 0

    def start(self, jobs: int = 0) -> float:
        """Start it; the seconds until it says that so many jobs are ready in the backlog."""
        began = time.monotonic()
        self.process = subprocess.Popen(self.command)
        while time.monotonic() - began < START_LIMIT_S:
            if self.process.poll() is not None:
                break
            if self._ready() == jobs:
                return time.monotonic() - began
            time.sleep(0.001)
        raise SystemExit(f"compare: {' '.join(self.command)} did not start")

    def _ready(self) -> int:
        """Ready jobs of the backlog; -1 while nobody answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=START_LIMIT_S) as one:
                one.sendall(f"stats-tube {TUBE}\r\n".encode())
                answer = one.makefile("rb")
                if answer.readline().startswith(b"NOT_FOUND"):
                    return 0
                for line in answer:
                    if line.startswith(b"current-jobs-ready:"):
                        return int(line.split()[1])
        except OSError:
            pass
        return -1

    def stop(self) -> None:
        """Ask it to end and wait until it has."""
        if self.process:
            self.process.terminate()
            self.process.wait(START_LIMIT_S)
            self.process = None

    def remove(self) -> None:
        """Kill it and give its disk back."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
        shutil.rmtree(self.folder, ignore_errors=True)


def load(bench: Bench, server: Server, *arguments: str) -> dict:
    """One run of the load generator; its report."""
    command = [str(bench.binary), "bench", "beanstalk", "--json", "--pid", str(server.pid),
               "--addr", f"127.0.0.1:{server.port}", "--size", str(bench.size), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"compare: {' '.join(command)} failed: {done.stderr}")
    return json.loads(done.stdout)


def flow(bench: Bench, rows: list[Row], rounds: int) -> None:
    """The rows with jobs that come and go: all servers up, in turns."""
    servers = [Server(bench, kind, "flow") for kind in KINDS]
    try:
        for server in servers:
            server.start()
        for row in rows:
            for _ in range(rounds):
                for server in servers:
                    others = machine.Others([server.pid for server in servers])
                    report = load(bench, server, "--clients", str(row.clients),
                                  "--pipeline", str(row.pipeline), "--seconds", str(bench.seconds))
                    bench.note(row.name, server.kind, {
                        "per_s": report["jobs_per_s"],
                        "server_us": report["server_cpu"]["us_per_message"],
                        "p50_us": report["round_us"]["p50"], "p99_us": report["round_us"]["p99"],
                        "others": others.share(),
                    })
    finally:
        for server in servers:
            server.remove()


def backlog(bench: Bench) -> None:
    """Memory with many jobs, and the time to start again with them."""
    for kind in (kind for kind in KINDS if kind.has_backlog):
        server = Server(bench, kind, "backlog")
        try:
            server.start()
            report = load(bench, server, "--fill", str(bench.jobs), "--pipeline", "1000",
                          "--tube", TUBE)
            figures = {"put_per_s": report["jobs_per_s"]}
            machine.await_quiet(server.pid)
            figures["mb"] = machine.rss_bytes(server.pid) / 1e6
            time.sleep(IDLE_S)
            figures["idle_mb"] = machine.rss_bytes(server.pid) / 1e6
            if kind.log is not None:
                files = server.folder.rglob("*")
                figures["disk_mb"] = sum(file.stat().st_blocks * 512 for file in files) / 1e6
                server.stop()
                figures["restart_s"] = server.start(bench.jobs)
                machine.await_quiet(server.pid)
                figures["restarted_mb"] = machine.rss_bytes(server.pid) / 1e6
            bench.note("backlog", kind, figures)
        finally:
            server.remove()


def medians(bench: Bench) -> dict:
    """Row -> kind -> figure -> median."""
    return {
        row: {kind: {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
              for kind, turns in kinds.items()}
        for row, kinds in bench.found.items()
    }


def markdown(bench: Bench, summary: dict) -> str:
    """The tables: speed with processor time, then the backlog."""
    titles = " | ".join(kind.title for kind in KINDS)
    against = [kind for kind in KINDS if not kind.is_potager]
    ratios = " | ".join(f"to {kind.name}" for kind in against)
    lines = [f"| put + reserve + delete, {bench.size} bytes | {titles} | {ratios} |",
             "|---" * (1 + len(KINDS) + len(against)) + "|"]
    for row in (row for row in ROWS if row.name in summary):
        kinds = summary[row.name]
        ours = kinds["potager"]
        cells = [f"{kinds[kind.name]['per_s']:,.0f}/s, {kinds[kind.name]['server_us']:.1f} us, "
                 f"p99 {kinds[kind.name]['p99_us'] / 1e3:.2f} ms" for kind in KINDS]
        cells += [f"{ours['per_s'] / kinds[kind.name]['per_s']:.1f}x, CPU "
                  f"{ours['server_us'] / max(kinds[kind.name]['server_us'], 1e-9):.2f}x"
                  for kind in against]
        lines.append(f"| {row.title} | {' | '.join(cells)} |")
    if "backlog" in summary:
        kinds = summary["backlog"]
        shown = [kind for kind in KINDS if kind.name in kinds]
        titles = " | ".join(kind.title for kind in shown)
        lines += ["", f"| {bench.jobs:,} jobs of {bench.size} bytes | {titles} |",
                  "|---" * (1 + len(shown)) + "|"]
        for title, name, unit in (("put, 1,000 at a time", "put_per_s", "/s"),
                                  ("memory with them, at once", "mb", " MB"),
                                  (f"memory after {IDLE_S:.0f} idle seconds", "idle_mb", " MB"),
                                  ("disk with them", "disk_mb", " MB"),
                                  ("start again until all are there", "restart_s", " s"),
                                  ("memory after that", "restarted_mb", " MB")):
            cells = []
            for kind in shown:
                value = kinds[kind.name].get(name)
                digits = 2 if unit == " s" else 0
                cells.append("-" if value is None else f"{value:,.{digits}f}{unit}")
            lines.append(f"| {title} | {' | '.join(cells)} |")
    lines += ["", "Speed, processor time of the server for a job, 99th percentile of a round (a "
              "batch of puts, one of reserves, one of deletes). Ratios are Potager's."]
    return "\n".join(lines) + "\n"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", type=Path, required=True, help="a release build of potager")
    parser.add_argument("--beanstalkd", default="beanstalkd", help="the original, default on PATH")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of a row, default 3")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round, default 4")
    parser.add_argument("--jobs", type=int, default=1_000_000, help="of the backlog; 0 is none")
    parser.add_argument("--size", type=int, default=100, help="bytes of a job, default 100")
    parser.add_argument("--only", action="append", default=[], help="only this row (repeat)")
    parser.add_argument("--folder", type=Path, help="where the logs lie, default a temporary one")
    parser.add_argument("--nice", type=int, default=0, help="priority of everything; needs root "
                        "below 0")
    parser.add_argument("--json", type=Path, help="write all figures there")
    parser.add_argument("--markdown", type=Path, help="write the tables there")
    return parser.parse_args()


def main() -> int:
    """Run the chosen rows and write the tables."""
    chosen = arguments()
    os.nice(chosen.nice)
    beanstalkd = shutil.which(chosen.beanstalkd)
    if not beanstalkd:
        raise SystemExit(f"compare: there is no {chosen.beanstalkd}; on Debian: apt install it")
    with tempfile.TemporaryDirectory(prefix="potager-compare-", dir=chosen.folder) as folder:
        bench = Bench(chosen.binary.resolve(), beanstalkd, chosen.seconds, chosen.jobs,
                      chosen.size, Path(folder))
        print(machine.describe(), f"load {machine.load():.2f}", flush=True)
        rows = [row for row in ROWS if not chosen.only or row.name in chosen.only]
        if rows:
            flow(bench, rows, chosen.rounds)
        if bench.jobs and (not chosen.only or "backlog" in chosen.only):
            backlog(bench)
    summary = medians(bench)
    tables = markdown(bench, summary)
    if chosen.json:
        chosen.json.write_text(json.dumps({
            "machine": machine.describe(), "rounds": chosen.rounds, "seconds": chosen.seconds,
            "summary": summary, "turns": bench.found}, indent=1))
    if chosen.markdown:
        chosen.markdown.write_text(tables)
    print(tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
