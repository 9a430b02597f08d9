"""The producer of `potager demo`: publishes tasks with confirms and writes down each confirmed one.

Arguments: first task, step between tasks, last task (0: none), seconds (0: no limit), file for the
confirmed ones. Celery itself waits for each confirm (`confirm_publish`) and publishes again when
the connection was lost before it came.
"""

import sys
import time

from potager_demo_app import work

first, step, last = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
seconds = float(sys.argv[4])
until = time.monotonic() + seconds if seconds else float("inf")
with open(sys.argv[5], "ab", buffering=0) as confirmed:
    number = first
    while (not last or number <= last) and time.monotonic() < until:
        work.delay(number)
        confirmed.write(b"%d\n" % number)
        number += step
