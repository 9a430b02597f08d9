"""One queue, several doors: what the work API gives, pika and greenstalk take, and the reverse.

What lives here: what crosses from one protocol to another.
"""

from __future__ import annotations

import json

import greenstalk
import pika
import pytest

from client import held


@pytest.fixture
def channel(door):
    """A channel of pika."""
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", door("amqp")))
    yield connection.channel()
    connection.close()


@pytest.fixture
def tubes(door, queue):
    """A client of greenstalk."""
    client = greenstalk.Client(("127.0.0.1", door("beanstalk")), encoding=None, use=queue,
                               watch=queue)
    yield client
    client.close()


def test_pika_takes_what_the_api_gives(api, channel, queue):
    api.publish(queue, {"key": "row-1", "body": {"n": 1.50}, "priority": 3,
                        "headers": {"a": "x", "n": 7, "b": True}})
    method, properties, body = channel.basic_get(queue)
    assert body == b'{"n": 1.5}'
    assert (properties.content_type, properties.delivery_mode) == ("application/json", 2)
    assert (properties.message_id, properties.priority) == ("row-1", 3)
    assert properties.headers == {"a": "x", "n": 7, "b": True}
    channel.basic_ack(method.delivery_tag)


def test_the_api_takes_what_pika_gives(api, channel, queue, worker, name):
    channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    properties = pika.BasicProperties(
        content_type="application/json", message_id="id-1", delivery_mode=2,
        headers={"deep": {"list": [1, "x", None]}, "n": -1})
    channel.basic_publish("", queue, json.dumps({"ä": 1}).encode(), properties)
    channel.basic_publish("", queue, b"\xff\x00", pika.BasicProperties(delivery_mode=2))
    first, second = api.claim(worker, queue, most=5)
    assert (first["key"], first["body"]) == ("id-1", {"ä": 1})
    assert first["headers"] == {"deep": {"list": [1, "x", None]}, "n": -1}
    assert second["base64"] == "/wA=" and second["key"] == second["id"]
    following = name("next")
    channel.queue_declare(following, durable=True)
    done = held(first, publish=[{"queue": following, "text": "out"}])
    assert api.outcomes("complete", worker, done, held(second)) == ["done", "done"]
    assert channel.basic_get(following, auto_ack=True)[2] == b"out"
    assert channel.queue_declare(queue, passive=True).method.message_count == 0


def test_publish_to_an_exchange(api, channel, queue, worker, name):
    exchange, target = name("exchange"), name("target")
    channel.exchange_declare(exchange, "topic", durable=True)
    channel.queue_declare(target, durable=True)
    channel.queue_bind(target, exchange, "done.#")
    api.publish(queue, {"text": "in"})
    [item] = api.claim(worker, queue)
    done = held(item, publish=[{"exchange": exchange, "routing_key": "done.x", "text": "out"}])
    assert api.outcomes("complete", worker, done) == ["done"]
    assert channel.basic_get(target, auto_ack=True)[2] == b"out"


def test_a_buried_job_of_a_queue_with_dead_letters_goes_there(api, channel, queue, worker, name):
    dead = name("dead")
    channel.queue_declare(dead, durable=True)
    channel.queue_declare(queue, durable=True, arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    api.publish(queue, {"text": "bad"})
    [item] = api.claim(worker, queue)
    api.outcomes("fail", worker, held(item, final=True))
    [letter] = api.claim(worker, dead, wait_s=5)
    assert letter["text"] == "bad"


def test_what_a_consumer_has_a_worker_cannot_finish(api, channel, queue, worker):
    [number] = api.publish(queue, {"text": "x"})
    method, _, _ = channel.basic_get(queue)
    assert api.outcomes("complete", worker, {"id": number, "attempt": 1}) == ["wrong_state"]
    channel.basic_ack(method.delivery_tag)


def test_greenstalk_and_the_api(api, tubes, queue, worker):
    api.publish(queue, {"text": "from the api"})
    job = tubes.reserve(timeout=5)
    assert job.body == b"from the api"
    tubes.delete(job)
    tubes.put(b"from greenstalk", priority=0)
    [item] = api.claim(worker, queue)
    assert item["text"] == "from greenstalk"
    api.outcomes("fail", worker, held(item, final=True))
    assert tubes.peek_buried().body == b"from greenstalk"
    assert tubes.kick(5) == 1
    tubes.delete(tubes.reserve(timeout=5))
