#!/usr/bin/env python3
"""A real RabbitMQ as a peer: start, kill and stop it on loopback with its own data directory.

What lives here: the life of one Debian RabbitMQ node, so that every suite can be judged against
the original as well (`run.py --peer rabbitmq`). What does not: tests, users and policies. Called by
run.py, by the fixtures of our own suites and from the command line:

    rabbitmq.py start --data-dir DIR [--port N]    prints the address, leaves the node running
    rabbitmq.py stop  --data-dir DIR               stops the node that `start` left running
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.server import Server, await_port, free_port  # noqa: E402

HOMES = "/usr/lib/rabbitmq/lib/rabbitmq_server-*"
START_LIMIT_S = 90.0
STOP_LIMIT_S = 30.0
# The port mapper is started here, in the node's process group: by itself it would become a daemon
# that outlives the node.
LAUNCH = 'epmd & until epmd -names >/dev/null 2>&1; do sleep 0.05; done; exec "$1"'


class PeerMissing(RuntimeError):
    """RabbitMQ is not installed on this machine."""


def installation() -> Path:
    """The newest installed RabbitMQ, or `PeerMissing` with what to type."""
    homes = sorted(glob.glob(HOMES))
    if not homes:
        raise PeerMissing(
            "no RabbitMQ below /usr/lib/rabbitmq: the peer needs Debian's package, "
            "apt-get install rabbitmq-server"
        )
    return Path(homes[-1])


class Rabbit(Server):
    """One RabbitMQ node. Everything it writes lies below `data_dir`."""

    kind = "rabbitmq"

    def __init__(self, data_dir: Path, port: int = 0) -> None:
        """Prepare a node that keeps its port over restarts; nothing runs yet."""
        super().__init__(data_dir)
        self.port = port or free_port()
        self.home = installation()
        self.version = self.home.name.removeprefix("rabbitmq_server-")
        self._dist_port = free_port()
        self._epmd_port = free_port()

    def _environment(self) -> dict[str, str]:
        base = self.data_dir
        (base / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlog.console = false\n"
        )
        (base / "advanced.config").write_text("[].\n")
        (base / "enabled_plugins").write_text("[].\n")
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(base),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": f"peer{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONFIG_FILE": str(base / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(base / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(base / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(base / "mnesia"),
            "RABBITMQ_LOG_BASE": str(base / "log"),
            "RABBITMQ_PID_FILE": str(base / "node.pid"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false"
            ),
        }

    def start(self) -> None:
        """Start the node and wait until it accepts a connection."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        log = open(self.data_dir / "console.log", "ab")
        with log:
            self.process = subprocess.Popen(
                ["sh", "-c", LAUNCH, "peer", str(self.home / "sbin" / "rabbitmq-server")],
                env=self._environment(), cwd=self.data_dir,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )
        await_port(self.port, START_LIMIT_S, self.process, "amqp")

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl against the node; returns what it prints."""
        done = subprocess.run(
            [str(self.home / "sbin" / "rabbitmqctl"), *arguments], env=self._environment(),
            cwd=self.data_dir, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {arguments[0]}: {done.stdout}{done.stderr}")
        return done.stdout

    def stop(self) -> int:
        """Stop the node by TERM; its whole process group is gone afterwards."""
        return self._end_group(signal.SIGTERM, STOP_LIMIT_S)

    def kill(self) -> None:
        """Kill the node and its helpers at once."""
        self._end_group(signal.SIGKILL, STOP_LIMIT_S)

    def _end_group(self, how: int, limit_s: float) -> int:
        process = self.process
        if process is None:
            return 0
        group = process.pid
        try:
            os.killpg(group, how)
        except ProcessLookupError:
            pass
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = -1
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait(STOP_LIMIT_S)
        self.process = None
        return code


def _ends(group: int, how: int) -> bool:
    """Send `how` to a process group once and wait until nobody of it is left."""
    try:
        os.killpg(group, how)
        deadline = time.monotonic() + STOP_LIMIT_S
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.1)
    except ProcessLookupError:
        return True
    return False


def main() -> int:
    """The command line: start or stop one node."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    chosen = parser.parse_args()
    state = chosen.data_dir.resolve() / "peer.json"
    if chosen.action == "start":
        try:
            node = Rabbit(chosen.data_dir.resolve(), chosen.port)
        except PeerMissing as missing:
            print(f"rabbitmq.py: {missing}", file=sys.stderr)
            return 1
        node.start()
        assert node.process is not None
        state.write_text(json.dumps({"group": node.process.pid, "port": node.port}))
        print(f"amqp://127.0.0.1:{node.port}  RabbitMQ {node.version}, group {node.process.pid}")
        return 0
    group = json.loads(state.read_text())["group"]
    for how in (signal.SIGTERM, signal.SIGKILL):
        if _ends(group, how):
            state.unlink(missing_ok=True)
            return 0
    print(f"rabbitmq.py: process group {group} does not end", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
