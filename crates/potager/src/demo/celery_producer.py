"""The producer of `potager demo`: publishes tasks with confirms and writes down each confirmed one.

Arguments: first task, step between tasks, last task (0: none), seconds (0: no limit), file for the
confirmed ones. Celery itself waits for each confirm (`confirm_publish`) and publishes again when
the connection was lost before it came. Several threads publish, as the threads of a web server
would, so that their confirms share flushes.
"""

import itertools
import sys
import threading
import time

from potager_demo_app import work

THREADS = 8

first, step, last = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
seconds = float(sys.argv[4])
until = time.monotonic() + seconds if seconds else float("inf")
numbers = itertools.count(first, step)
failures = []


def publish(confirmed) -> None:
    """Publish until the last number or the end of the time."""
    try:
        for number in numbers:
            if (last and number > last) or time.monotonic() >= until:
                return
            work.delay(number)
            confirmed.write(b"%d\n" % number)
    except Exception as failure:
        failures.append(failure)
        raise


with open(sys.argv[5], "ab", buffering=0) as confirmed:
    threads = [threading.Thread(target=publish, args=(confirmed,)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
sys.exit(1 if failures else 0)
