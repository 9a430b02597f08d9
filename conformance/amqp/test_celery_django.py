"""Celery, unmodified, in Django: the tutorial's project with django-celery-results on SQLite.

What lives here: the one test. What does not: the project (apps/orchard).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from workers import APPS

ORCHARD = APPS / "orchard"


def test_django_with_results_on_sqlite(plant):
    garden = plant()
    settings = {"CONF_SQLITE": str(garden.room / "db.sqlite3"), "CONF_QUEUE": garden.queue,
                "CONF_BROKER": garden.broker, "DJANGO_SETTINGS_MODULE": "orchard.settings"}

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=ORCHARD, env={**os.environ, **settings},
            capture_output=True, text=True, timeout=90, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    run("manage.py", "migrate", "-v", "0")
    garden.worker(app="orchard", folder=ORCHARD, **settings)
    seen = json.loads(run("client.py"))
    assert seen == {
        "sums": [2 * number for number in range(20)], "said": "from the tree", "rows": 21,
        "row": ["SUCCESS", "6", "fruit.tasks.add"], "bad": ["FAILURE", True],
    }
