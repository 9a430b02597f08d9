"""The Celery application that the workers of our suites run, as anybody would write one.

What lives here: the app and its tasks. Settings come as JSON in CONF_SETTINGS, so that a test
decides what its workers do. What does not: starting workers (workers.py). Imported by `celery -A
garden` and, through `make`, by the tests themselves.
"""

import json
import os
import time
from pathlib import Path

from celery import Celery, Task
from celery.exceptions import SoftTimeLimitExceeded

NOTES = Path(os.environ.get("CONF_NOTES", "/dev/null"))


def note(*words) -> None:
    """One line in the test's notebook; O_APPEND keeps lines of many processes whole."""
    with open(os.environ.get("CONF_NOTES", "/dev/null"), "a", encoding="utf-8") as out:
        out.write(" ".join(str(word) for word in words) + "\n")


class Noting(Task):
    """A task whose failure is noted by the worker, as `on_failure` promises."""

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        """Called in the worker."""
        note("on_failure", task_id, type(exc).__name__, *exc.args)


def make(broker: str, **settings) -> Celery:
    """An app with all tasks registered on it."""
    app = Celery("garden", broker=broker, backend=settings.pop("backend", "rpc://"))
    app.conf.update(broker_connection_retry_on_startup=True, **settings)
    if settings.get("security_key"):
        app.setup_security(allowed_serializers=["json"])
    register(app)
    return app


def register(app: Celery) -> None:
    """Every task of the garden."""

    @app.task(name="garden.add")
    def add(x, y):
        return x + y

    @app.task(name="garden.echo")
    def echo(value):
        return value

    @app.task(name="garden.mark", bind=True)
    def mark(self, word):
        note("mark", word, f"{time.time():.3f}", self.request.delivery_info["redelivered"])
        return word

    @app.task(name="garden.fail", base=Noting)
    def fail(message):
        raise ValueError(message, 7)

    @app.task(name="garden.flaky", bind=True, autoretry_for=(KeyError,), max_retries=5,
              retry_backoff=True, retry_jitter=False)
    def flaky(self, failures):
        note("try", self.request.retries, f"{time.time():.3f}")
        if self.request.retries < failures:
            raise KeyError("not yet")
        return self.request.retries

    @app.task(name="garden.doze", bind=True)
    def doze(self, seconds, word="doze"):
        note("begin", word, os.getpid(), os.getppid())
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(0.05)
        except SoftTimeLimitExceeded:
            note("soft", word)
            raise
        note("end", word, os.getpid())
        return word

    @app.task(name="garden.late", bind=True, acks_late=True)
    def late(self, seconds, word):
        note("begin", word, os.getpid(), os.getppid(), f"{time.time():.3f}")
        time.sleep(seconds)
        note("end", word, os.getpid())
        return word


if "CONF_BROKER" in os.environ:
    app = make(os.environ["CONF_BROKER"], **json.loads(os.environ.get("CONF_SETTINGS", "{}")))
