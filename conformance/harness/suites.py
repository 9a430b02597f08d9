"""The table of suites: what is run, where, with which settings, and for how long.

What lives here: one row per suite. What does not: how a suite is run (runner.py) or judged
(verdict.py). Called by run.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import environment

OWN = environment.HERE / "amqp"
BEANSTALK = environment.HERE / "beanstalk"
WORK = environment.HERE / "work"

# A port where nobody listens: celery's suite then sees at once that there is no Redis, and never
# finds one that happens to run on this machine.
NO_REDIS = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": "1"}

# Modules of celery's t/integration that talk to a broker and need no result store but rpc://. The
# order is pytest's own: the modules share one worker in the test process, and disturb each other in
# any other order.
CELERY_MODULES = (
    "test_beat.py", "test_canvas.py", "test_inspect.py", "test_loader.py", "test_security.py",
    "test_serialization.py", "test_tasks.py", "test_worker.py",
)


@dataclass(frozen=True)
class Suite:
    """One pytest run. `limit_s` is wall time; afterwards its process group is killed."""

    name: str
    limit_s: int
    folder: Callable[[], Path]
    arguments: tuple[str, ...]
    settings: Callable[[int], dict[str, str]]
    about: str


def _upstream(port: int) -> dict[str, str]:
    return {
        "RABBITMQ_HOST": "127.0.0.1", "RABBITMQ_5672_TCP": str(port), "RABBITMQ_5671_TCP": "1",
        "TEST_BROKER": f"pyamqp://guest:guest@127.0.0.1:{port}//", "TEST_BACKEND": "rpc://",
        **NO_REDIS,
    }


def _own(name: str, limit_s: int, files: tuple[str, ...], about: str) -> Suite:
    return Suite(f"amqp/{name}", limit_s, lambda: OWN, files, lambda port: {}, about)


def _beanstalk(name: str, limit_s: int, files: tuple[str, ...], about: str) -> Suite:
    return Suite(f"beanstalk/{name}", limit_s, lambda: BEANSTALK, files, lambda port: {}, about)


def _work(name: str, limit_s: int, files: tuple[str, ...], about: str) -> Suite:
    return Suite(f"work/{name}", limit_s, lambda: WORK, files, lambda port: {}, about)


SUITES = (
    Suite(
        "amqp/kombu-integration", 180, lambda: environment.source("kombu"),
        ("t/integration/test_py_amqp.py",), _upstream,
        "kombu 5.7.0, t/integration, the py-amqp part",
    ),
    Suite(
        "amqp/py-amqp-integration", 180, lambda: environment.source("amqp"),
        # Two tests ask a host in the Internet, so their outcome says nothing about a server.
        ("t/integration", "-p", "no:rerunfailures",
         "--deselect", "t/integration/test_rmq.py::test_tls_default_certs",
         "--deselect", "t/integration/test_rmq.py::test_tls_no_default_certs_fails"), _upstream,
        "py-amqp 5.4.2, t/integration (its certificates are not in the archive)",
    ),
    Suite(
        "amqp/celery-integration", 1200, lambda: environment.source("celery"),
        ("-p", "celery.contrib.pytest", "-p", "no:rerunfailures",
         *(f"t/integration/{module}" for module in CELERY_MODULES)), _upstream,
        "celery 5.7.0, t/integration over pyamqp:// and rpc://",
    ),
    _own("pika-basics", 300, ("test_pika_basics.py",), "pika: the everyday verbs"),
    _own("pika-queues", 300, ("test_pika_queues.py",), "pika: queue arguments"),
    _own("pika-routing", 300, ("test_pika_routing.py",), "pika: exchanges and routing"),
    _own("pika-errors", 300, ("test_pika_errors.py",), "pika: every documented refusal"),
    _own("pika-tx", 420, ("test_pika_tx.py",), "pika: transactions, also through kill -9"),
    _own("pika-server", 300, ("test_pika_server.py",), "pika: alarms, limits, users, stopping"),
    _own("rights", 300, ("test_rights.py",), "pika: every method in six roles"),
    _own("tls", 300, ("test_tls.py",), "pika, Celery and ssl: TLS, certificates, reloading"),
    _own("celery-tasks", 600, ("test_celery_tasks.py",), "Celery: tasks, results, time, canvas"),
    _own("celery-control", 600, ("test_celery_control.py",), "Celery: remote control and events"),
    _own("celery-bodies", 600, ("test_celery_bodies.py", "test_celery_django.py"),
         "Celery: serializers, compressions, signatures, pools, Django"),
    _own("celery-faults", 600, ("test_celery_faults.py",), "Celery: killed workers and servers"),
    _own("hostile", 600,
         ("test_hostile_common.py", "test_hostile_frames.py", "test_hostile_methods.py"),
         "raw sockets: the hostile inputs, table by table"),
    Suite("amqp/differential", 420, lambda: environment.HERE / "differential",
          ("test_differential.py",), lambda port: {},
          "generated sequences of methods: Potager and RabbitMQ must answer the same"),
    _own("ledger", 300, ("test_ledger.py",), "confirmed messages through kill -9"),
    _beanstalk("greenstalk", 300,
               ("test_greenstalk_jobs.py", "test_greenstalk_tubes.py", "test_greenstalk_time.py",
                "test_greenstalk_server.py"), "greenstalk: every command, every figure"),
    _beanstalk("wire", 120, ("test_wire.py",), "raw sockets: forms, lengths, order, half-close"),
    _beanstalk("transcripts", 300, ("test_transcripts.py",),
               "the recorded stories, answer by answer"),
    _beanstalk("hostile", 300, ("test_hostile_common.py", "test_hostile_beanstalk.py"),
               "raw sockets: the hostile inputs, group by group"),
    Suite("beanstalk/differential", 300, lambda: environment.HERE / "beanstalk_differential",
          ("test_differential.py",), lambda port: {},
          "generated sequences of commands: Potager and beanstalkd must answer the same"),
    _work("api", 300, ("test_jobs.py", "test_results.py", "test_tokens.py"),
          "urllib: every call of the work API, its answers and its refusals"),
    _work("interop", 300, ("test_interop.py",),
          "pika and greenstalk on the queues of the work API, both ways"),
    _work("faults", 300, ("test_faults.py",),
          "clients that go away, restarts and kill -9 between the calls of a worker"),
    _work("scenario", 420, ("test_scenario.py",),
          "pika and pandas: 28,000 prompts through kills, upserted into a table by key"),
    _work("hostile", 300, ("test_hostile_http.py",),
          "raw sockets: the hostile inputs of an HTTP door"),
    _beanstalk("ledger", 120, ("test_ledger.py",), "inserted and deleted jobs through kill -9"),
)


def chosen(names: list[str], door: str) -> list[Suite]:
    """The suites of `door`, or those named (with or without the door)."""
    of_door = [suite for suite in SUITES if suite.name.startswith(f"{door}/")]
    if not names:
        return of_door
    wanted = {name if "/" in name else f"{door}/{name}" for name in names}
    unknown = wanted - {suite.name for suite in of_door}
    if unknown:
        raise SystemExit(f"conformance: no suite named {', '.join(sorted(unknown))}; see --list")
    return [suite for suite in of_door if suite.name in wanted]
