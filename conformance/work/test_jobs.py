"""Jobs through the work API: given, taken, renewed, finished, failed, looked at.

What lives here: one server, no faults. What does not: results for their own sake
(test_results.py), other doors (test_interop.py).
"""

from __future__ import annotations

import threading
import time

from client import held


def test_a_job_comes_as_it_was_given(api, queue, worker):
    body = {"prompt": "ä", "n": [1.10, 12345678901234567890]}
    [number] = api.publish(queue, {"key": "row-17", "body": body, "headers": {"tenant": "a", "n": 2}})
    [item] = api.claim(worker, queue)
    assert item["id"] == number and item["attempt"] == 1 and item["failures"] == 0
    assert (item["key"], item["body"], item["queue"]) == ("row-17", body, queue)
    assert (item["content_type"], item["headers"]) == ("application/json", {"tenant": "a", "n": 2})
    assert abs(item["published_ms"] / 1000 - time.time()) < 60


def test_values_of_every_kind(api, queue, worker):
    api.publish(queue, {"text": "plain"}, {"base64": "AP/+"}, {"body": None}, {"body": "text"},
                {"base64": "eyJhIjoxfQ==", "content_type": "application/json"})
    items = api.claim(worker, queue, most=10)
    assert [item.get("text") for item in items] == ["plain", None, None, None, None]
    assert items[1]["base64"] == "AP/+"
    assert items[2]["body"] is None and items[3]["body"] == "text" and items[4]["body"] == {"a": 1}


def test_priority_first_then_age(api, queue, worker):
    api.publish(queue, {"text": "old"}, {"text": "high", "priority": 9}, {"text": "new"})
    assert [item["text"] for item in api.claim(worker, queue, most=9)] == ["high", "old", "new"]


def test_nothing_says_why(api, queue, worker, name):
    def idle():
        return api.post("claim", worker=worker, queues=[queue])["idle"]

    assert idle() == "empty"
    api.publish(queue, {"text": "x"})
    [item] = api.claim(name("other"), queue)
    assert idle() == "claimed"
    assert api.outcomes("fail", worker, held(item)) == ["not_held"]
    api.publish(queue, {"text": "later", "delay_s": 100})
    assert idle() == "delayed"


def test_a_claim_waits_for_what_another_connection_publishes(api, queue, worker):
    found = []
    thread = threading.Thread(
        target=lambda: found.extend(api.claim(worker, queue, wait_s=20, most=5)))
    thread.start()
    time.sleep(0.5)
    began = time.monotonic()
    api.publish(queue, {"text": "a"})
    thread.join(10)
    assert [item["text"] for item in found] == ["a"] and time.monotonic() - began < 5


def test_a_wait_ends(api, queue, worker):
    began = time.monotonic()
    answer = api.post("claim", worker=worker, queues=[queue], wait_s=1)
    assert answer == {"items": [], "idle": "empty"}
    assert 0.9 < time.monotonic() - began < 5


def test_complete_is_one_step(api, queue, worker, name):
    key, following = name("key"), name("next")
    api.publish(queue, {"text": "in"})
    [item] = api.claim(worker, queue)
    done = held(item, result={"key": key, "body": {"a": 1}, "notes": {"model": "m"}},
                publish=[{"queue": following, "text": "out"}])
    assert api.outcomes("complete", worker, done) == ["done"]
    assert api.outcomes("complete", worker, done) == ["done_before"]
    result = api.get(f"results/{key}")
    assert (result["body"], result["notes"]) == ({"a": 1}, {"model": "m"})
    assert (result["worker"], result["job"]) == (worker, item["id"])
    assert [item["text"] for item in api.claim(worker, following, most=5)] == ["out"]
    assert api.call("GET", f"jobs/{item['id']}").status == 404


def test_the_first_result_counts_and_is_followed_up_once(api, queue, worker, name):
    key, following = name("key"), name("next")
    api.publish(queue, {"text": "1"}, {"text": "2"})
    items = api.claim(worker, queue, most=2)
    outcomes = [api.outcomes("complete", worker, held(
        item, result={"key": key, "text": item["text"]},
        publish=[{"queue": following, "text": item["text"]}])) for item in items]
    assert outcomes == [["done"], ["kept_first"]]
    assert api.get(f"results/{key}")["text"] == "1"
    assert [item["text"] for item in api.claim(worker, following, most=5)] == ["1"]


def test_failures_are_counted_then_the_job_is_laid_aside(api, queue, worker):
    [number] = api.publish(queue, {"text": "bad"})
    seen = []
    for _ in range(3):
        [item] = api.claim(worker, queue)
        seen.append((item["attempt"], item["failures"]))
        seen += api.outcomes("fail", worker, held(item, **{"class": "broken", "message": "why"}))
    assert seen == [(1, 0), "returned", (2, 1), "returned", (3, 2), "buried"]
    job = api.get(f"jobs/{number}")
    assert (job["state"], job["failures"], job["text"]) == ("buried", 3, "bad")
    assert [(one["worker"], one["end"], one["class"], one["message"]) for one in job["attempts"]] \
        == [(worker, "failed", "broken", "why")] * 3
    assert api.post("claim", worker=worker, queues=[queue])["idle"] == "buried"
    assert api.post(f"jobs/{number}/retry")["outcome"] == "ready"
    assert [item["id"] for item in api.claim(worker, queue)] == [number]


def test_a_final_failure_is_the_last(api, queue, worker):
    api.publish(queue, {"text": "bad"})
    [item] = api.claim(worker, queue)
    assert api.outcomes("fail", worker, held(item, final=True)) == ["buried"]
    assert api.post(f"queues/{queue}/retry") == {"ready": 1}


def test_release_is_nobodys_failure(api, queue, worker):
    api.publish(queue, {"text": "1"}, {"text": "2"})
    items = api.claim(worker, queue, most=2)
    assert api.outcomes("release", worker, held(items[0])) == ["returned"]
    answer = api.post("release", worker=worker, all=True)
    assert [item["outcome"] for item in answer["items"]] == ["returned"]
    again = api.claim(worker, queue, most=2)
    assert [(item["text"], item["failures"]) for item in again] == [("1", 0), ("2", 0)]
    assert all(item["attempt"] == 2 for item in again)


def test_an_old_attempt_does_not_give_back_a_new_one(api, queue, worker):
    api.publish(queue, {"text": "x"})
    [first] = api.claim(worker, queue)
    api.outcomes("release", worker, held(first))
    api.claim(worker, queue)
    assert api.outcomes("fail", worker, held(first)) == ["not_held"]


def test_renew_tells_what_is_held(api, queue, worker):
    api.publish(queue, {"text": "1"}, {"text": "2"})
    items = api.claim(worker, queue, most=2, lease_s=5)
    api.outcomes("complete", worker, held(items[0]))
    answer = api.post("renew", worker=worker, lease_s=60, items=[held(item) for item in items])
    assert answer == {"held": [held(items[1])], "lost": [items[0]["id"]]}
    assert api.get(f"jobs/{items[1]['id']}")["left_s"] > 30


def test_a_lease_ends_and_a_late_result_still_counts(api, queue, worker, name):
    [number] = api.publish(queue, {"text": "x"})
    [item] = api.claim(worker, queue, lease_s=5)
    [again] = api.claim(name("other"), queue, wait_s=20)
    assert (again["id"], again["attempt"], again["failures"]) == (number, 2, 0)
    assert api.get(f"jobs/{number}")["attempts"][0]["end"] == "expired"
    assert api.outcomes("complete", worker, held(item)) == ["done"]
    assert api.outcomes("complete", name("other"), held(again)) == ["done_before"]


def test_two_workers_share_and_never_double(api, queue, name):
    api.publish(queue, *({"text": str(number)} for number in range(200)))
    found = []

    def work(worker):
        while items := api.claim(worker, queue, most=7):
            found.extend(item["text"] for item in items)
            api.outcomes("complete", worker, *(held(item) for item in items))

    threads = [threading.Thread(target=work, args=(name(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found, key=int) == [str(number) for number in range(200)]


def test_idempotency(api, queue, worker):
    first = api.publish(queue, {"text": "1"}, {"text": "2"}, idempotency_key="upload")
    again = api.publish(queue, {"text": "1"}, {"text": "other"}, idempotency_key="upload")
    assert first == again
    own = api.publish(queue, {"text": "3", "idempotency_key": "mine"})
    assert own == api.publish(queue, {"text": "3", "idempotency_key": "mine"})
    assert len(api.claim(worker, queue, most=10)) == 3


def test_one_wrong_item_harms_no_other(api, queue, worker):
    items = [{"text": str(number)} for number in range(999)] + [{"text": "x", "priority": 256}]
    answer = api.post("publish", queue=queue, items=items)
    assert answer["accepted"] == 999 and answer["items"][999]["error"]["code"] == "bad_request"
    assert len(api.claim(worker, queue, most=1000)) == 999


def test_what_expires_is_not_handed_over(api, queue, worker):
    api.publish(queue, {"text": "short", "expires_s": 1}, {"text": "long", "expires_s": 100})
    time.sleep(1.5)
    assert [item["text"] for item in api.claim(worker, queue, most=5)] == ["long"]


def test_delay(api, queue, worker):
    [number] = api.publish(queue, {"text": "later", "delay_s": 1})
    assert api.get(f"jobs/{number}")["state"] == "delayed"
    assert [item["text"] for item in api.claim(worker, queue, wait_s=10)] == ["later"]


def test_queues_count_and_pause(api, queue, worker):
    api.publish(queue, {"text": "1"}, {"text": "2"}, {"text": "3", "delay_s": 100})
    api.claim(worker, queue)
    facts = api.get(f"queues/{queue}")
    assert [facts[state] for state in ("ready", "claimed", "delayed", "buried")] == [1, 1, 1, 0]
    assert facts in api.get("queues")["queues"]
    api.post(f"queues/{queue}/pause", seconds=100)
    assert api.post("claim", worker=worker, queues=[queue])["idle"] == "paused"
    api.post(f"queues/{queue}/pause", seconds=0)
    assert len(api.claim(worker, queue)) == 1


def test_a_job_is_deleted_when_nobody_has_it(api, queue, worker):
    [number] = api.publish(queue, {"text": "1"})
    [item] = api.claim(worker, queue)
    assert api.call("DELETE", f"jobs/{number}").code == "wrong_state"
    api.outcomes("release", worker, held(item))
    assert api.call("DELETE", f"jobs/{number}").json["outcome"] == "deleted"
    assert api.call("DELETE", f"jobs/{number}").status == 404


def test_large_answers_are_cut(api, queue, worker):
    for _ in range(4):
        api.publish(queue, {"text": "x" * (6 << 20)})
    assert 1 <= len(api.claim(worker, queue, most=10)) <= 3
    assert api.get(f"queues/{queue}")["total"] == 4


def test_home_made_agents(api, queue, worker):
    answer = api.call("POST", "/send_workq_message/", {
        "rabbit": {"host": "h", "password": "p"}, "routing_key": queue, "durable": True,
        "message_list": ["{\"a\": 1}", {"b": 2}], "queue": queue})
    assert answer.json == {"status": "ok", "sent": 2}
    first, second = api.claim(worker, queue, most=5)
    assert first["text"] == "{\"a\": 1}" and second["body"] == {"b": 2}


def test_a_virtual_host_that_is_not_there(api, queue):
    api.vhost = "nowhere"
    answer = api.call("POST", "publish", {"queue": queue, "items": [{"text": "x"}]})
    assert (answer.status, answer.code) == (404, "not_found")
    answer = api.call("POST", "claim", {"worker": "w", "queues": [queue]})
    assert (answer.status, answer.code) == (404, "not_found")


def test_more_waits_than_a_worker_may_have(api, queue, worker):
    codes, lock = [], threading.Lock()

    def wait():
        answer = api.call("POST", "claim", {"worker": worker, "queues": [queue], "wait_s": 4})
        with lock:
            codes.append(answer.status)

    threads = [threading.Thread(target=wait) for _ in range(70)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert codes.count(200) == 64 and codes.count(429) == 6
