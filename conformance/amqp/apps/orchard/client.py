"""What a view of the tutorial would do: send tasks, wait, read their rows. Prints JSON."""

import json

import django

import orchard  # noqa: F401

django.setup()

from django_celery_results.models import TaskResult  # noqa: E402
from fruit.tasks import add, fall  # noqa: E402

good = [add.delay(number, number) for number in range(20)]
sums = [result.get(timeout=40) for result in good]
bad = fall.delay("from the tree")
try:
    bad.get(timeout=40)
    said = "nothing"
except RuntimeError as error:
    said = str(error)
row = TaskResult.objects.get(task_id=good[3].id)
bad_row = TaskResult.objects.get(task_id=bad.id)
print(json.dumps({
    "sums": sums, "said": said, "rows": TaskResult.objects.count(),
    "row": [row.status, row.result, row.task_name],
    "bad": [bad_row.status, "RuntimeError: from the tree" in bad_row.traceback],
}))
