"""Results through the work API: stored, listed, followed, exported.

What lives here: results. What does not: jobs (test_jobs.py).
"""

from __future__ import annotations

import json
import threading
import time
import urllib.parse


def put(api, key, **body):
    """Stores one; its outcome."""
    answer = api.call("PUT", f"results/{urllib.parse.quote(key, '')}", body)
    assert answer.status == 200, answer.body
    return answer.json["outcome"]


def test_first_and_last(api, name):
    key = name("a/b ä")
    assert put(api, key, body={"v": 1}) == "stored"
    assert put(api, key, body={"v": 2}) == "kept_first"
    path = f"results/{urllib.parse.quote(key, '')}"
    first = api.get(path)
    assert (first["key"], first["body"], first["worker"], first["job"]) == (key, {"v": 1}, None, None)
    assert put(api, key, body={"v": 3}, policy="last", notes={"n": 1}) == "stored"
    last = api.get(path)
    assert (last["body"], last["notes"]) == ({"v": 3}, {"n": 1})
    assert last["revision"] > first["revision"]
    assert api.call("DELETE", path).json == {"outcome": "deleted"}
    assert api.call("GET", path).status == 404 and api.call("DELETE", path).status == 404


def test_raw_is_harmless_in_a_browser(api, name):
    key = name()
    put(api, key, text="<script>alert(1)</script>", content_type="text/html")
    answer = api.call("GET", f"results/{key}?raw=1")
    assert answer.body == b"<script>alert(1)</script>"
    assert answer.headers["Content-Type"] == "text/html"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_list_is_paged_in_order(api, name):
    prefix = name("list") + "/"
    for number in range(25):
        put(api, f"{prefix}{number:02}", body=number)
    found, after = [], ""
    while True:
        page = api.get(f"results?prefix={urllib.parse.quote(prefix)}&after={after}&most=10")
        found += [result["body"] for result in page["results"]]
        if not page["more"]:
            break
        after = urllib.parse.quote(page["results"][-1]["key"], "")
    assert found == list(range(25))


def test_changes_name_each_key_once_and_deletions(api, name):
    prefix = name("changes")
    start = api.get("results?most=1")["revision"]
    put(api, prefix + "1", body=1)
    put(api, prefix + "2", body=1)
    put(api, prefix + "1", body=2, policy="last")
    api.call("DELETE", f"results/{prefix}2")
    page = api.get(f"changes?after={start}&prefix={prefix}")
    assert [(change["key"], change.get("body"), change.get("deleted")) for change in page["changes"]] \
        == [(prefix + "1", 2, None), (prefix + "2", None, True)]
    assert not page["more"] and not page["gap"]
    again = api.get(f"changes?after={page['revision']}&prefix={prefix}")
    assert again["changes"] == []


def test_changes_wait(api, name):
    prefix = name("wait")
    start = api.get("results?most=1")["revision"]
    found = []
    thread = threading.Thread(target=lambda: found.append(
        api.get(f"changes?after={start}&prefix={prefix}&wait_s=20")))
    thread.start()
    time.sleep(0.5)
    put(api, prefix, body=1)
    thread.join(10)
    assert [change["key"] for change in found[0]["changes"]] == [prefix]
    began = time.monotonic()
    page = api.get(f"changes?after={found[0]['revision']}&prefix={prefix}&wait_s=1")
    assert page["changes"] == [] and 0.9 < time.monotonic() - began < 5


def test_an_export_is_all_of_them(api, name):
    prefix = name("export")
    for number in range(1500):
        put(api, f"{prefix}{number:04}", text="x" * 100)
    answer = api.call("GET", f"export?prefix={prefix}")
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert [line["key"] for line in lines] == [f"{prefix}{number:04}" for number in range(1500)]
    assert answer.headers["Content-Type"] == "application/x-ndjson"


def test_large_results_come_in_pages(api, name):
    prefix = name("large")
    for number in range(5):
        put(api, f"{prefix}{number}", text="x" * (6 << 20))
    found, after = 0, ""
    while True:
        page = api.get(f"results?prefix={prefix}&after={after}")
        assert 1 <= len(page["results"]) <= 3
        found += len(page["results"])
        after = page["results"][-1]["key"]
        if not page["more"]:
            break
    assert found == 5
    answer = api.call("GET", f"export?prefix={prefix}")
    assert len(answer.body.splitlines()) == 5


def test_time_to_live(api, name):
    key = name()
    put(api, key, text="x", ttl_s=1)
    assert api.get(f"results/{key}")["expires_ms"] is not None
    time.sleep(2)
    assert api.call("GET", f"results/{key}").status == 404


def test_what_cannot_be_stored(api, name):
    key = name()
    for body in ({}, {"text": "x", "body": 1}, {"text": "x", "notes": []}, {"text": "x", "ttl_s": -1},
                 {"text": "x", "policy": "other"}, {"text": "x", "odd": 1}):
        answer = api.call("PUT", f"results/{key}", body)
        assert (answer.status, answer.code) == (400, "bad_request"), body
    answer = api.call("PUT", f"results/{key}", {"text": "x", "notes": {"n": "x" * 70_000}})
    assert (answer.status, answer.code) == (413, "too_large")


def test_the_page_for_machines(api):
    page = api.get("openapi.json")
    assert page["openapi"].startswith("3.") and "/work/v1/claim" in page["paths"]
