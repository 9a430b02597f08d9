"""Keeps a table equal to the results: pandas reads the changes, SQL upserts them by key.

What lives here: one pass from the revision reached before to the newest. What does not: when it
runs (test_scenario.py). The revision is stored in the transaction of the rows, so a pass that is
killed is repeated and no row is there twice.

Arguments: HTTP port, database file. Prints the number of rows of the pass.
"""

from __future__ import annotations

import sqlite3
import sys

import pandas

SCHEMA = """
create table if not exists answers (hash text primary key, row integer, answer text);
create table if not exists reached (one integer primary key check (one = 1), revision integer);
insert or ignore into reached values (1, 0);
"""
UPSERT = """
insert into answers values (?, ?, ?)
on conflict (hash) do update set row = excluded.row, answer = excluded.answer
"""


def changes(port: int, after: int) -> pandas.Series:
    """One page of the feed."""
    url = f"http://127.0.0.1:{port}/work/v1/changes?after={after}&most=1000"
    return pandas.read_json(url, typ="series")


def main() -> None:
    """Read to the end of the feed."""
    port, seen = int(sys.argv[1]), 0
    database = sqlite3.connect(sys.argv[2])
    database.executescript(SCHEMA)
    [after] = database.execute("select revision from reached").fetchone()
    more = True
    while more:
        page = changes(port, after)
        frame = pandas.json_normalize(page["changes"])
        if len(frame):
            rows = frame[["key", "notes.row", "body.answer"]]
            with database:
                database.executemany(UPSERT, rows.itertuples(index=False, name=None))
                database.execute("update reached set revision = ?", (int(page["revision"]),))
        seen, after, more = seen + len(frame), int(page["revision"]), bool(page["more"])
    print(seen)


if __name__ == "__main__":
    main()
