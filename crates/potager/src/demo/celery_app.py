"""The Celery application of `potager demo`: ordinary tasks that write down each execution.

Imported by unmodified Celery workers and by celery_producer.py. A book is a file of its own per
process, one line per execution: task, serial number, redelivered, milliseconds since 1970.
"""

import itertools
import os
import time

from celery import Celery

app = Celery("potager_demo", broker=os.environ["POTAGER_DEMO_BROKER"])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=16,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={"confirm_publish": True},
    task_publish_retry_policy={
        "max_retries": 200, "interval_start": 0.02, "interval_step": 0.02, "interval_max": 0.2,
    },
)

_books = {}
_serial = itertools.count(1)


def _book():
    """This process's book; prefork children each open their own."""
    pid = os.getpid()
    if pid not in _books:
        name = f"{os.environ.get('POTAGER_DEMO_WORKER', 'none')}-{pid}.executed"
        path = os.path.join(os.environ["POTAGER_DEMO_BOOKS"], name)
        _books[pid] = open(path, "ab", buffering=0)
    return _books[pid]


@app.task(bind=True)
def work(self, number):
    """One task: write down that it was executed."""
    redelivered = int(bool((self.request.delivery_info or {}).get("redelivered")))
    at_ms = int(time.time() * 1000)
    _book().write(f"{number} {next(_serial)} {redelivered} {at_ms}\n".encode())
