"""One run of an unmodified Python client against one server: publishes or consumes, prints JSON.

What lives here: the four client rows of the comparison. What does not: measuring the server
(machine.py) and choosing rows (compare.py), which calls this in the suites' venv:

    clients.py ROW HOST:PORT SECONDS
"""

from __future__ import annotations

import json
import sys
import time

BODY = b"p" * 1024
QUEUE = "potager.bench.clients"
# Messages that lie ready before the consuming row begins.
STORED = 60_000


def pika_channel(host: str, port: int):
    """A blocking pika channel with the queue declared."""
    import pika

    connection = pika.BlockingConnection(
        pika.ConnectionParameters(host, port, heartbeat=0, blocked_connection_timeout=60)
    )
    channel = connection.channel()
    channel.queue_declare(QUEUE, durable=True)
    return connection, channel, pika.BasicProperties(delivery_mode=2)


def amqp_channel(host: str, port: int, confirms: bool = False):
    """A py-amqp channel with the queue declared."""
    import amqp

    connection = amqp.Connection(f"{host}:{port}", confirm_publish=confirms)
    connection.connect()
    channel = connection.channel()
    channel.queue_declare(QUEUE, durable=True, auto_delete=False)
    return connection, channel


def loop(seconds: float, step, batch: int = 1) -> dict:
    """Call `step` until the time is over; returns messages, seconds and this process's CPU."""
    began, cpu = time.monotonic(), time.process_time()
    count = 0
    while time.monotonic() - began < seconds:
        for _ in range(batch):
            step()
        count += batch
    return {"messages": count, "seconds": time.monotonic() - began,
            "client_cpu_s": time.process_time() - cpu}


def pika_confirm(host: str, port: int, seconds: float) -> dict:
    """pika, BlockingConnection, each publish waits for its confirm."""
    connection, channel, properties = pika_channel(host, port)
    channel.confirm_delivery()
    done = loop(seconds, lambda: channel.basic_publish("", QUEUE, BODY, properties))
    channel.queue_delete(QUEUE)
    connection.close()
    return done


def pika_publish(host: str, port: int, seconds: float) -> dict:
    """pika, BlockingConnection, no confirms; the last call proves that all has arrived."""
    connection, channel, properties = pika_channel(host, port)
    began, cpu = time.monotonic(), time.process_time()
    done = loop(seconds, lambda: channel.basic_publish("", QUEUE, BODY, properties), 100)
    channel.queue_declare(QUEUE, passive=True)
    done |= {"seconds": time.monotonic() - began, "client_cpu_s": time.process_time() - cpu}
    channel.queue_delete(QUEUE)
    connection.close()
    return done


def amqp_publish(host: str, port: int, seconds: float) -> dict:
    """py-amqp, no confirms; the last call proves that all has arrived."""
    import amqp

    connection, channel = amqp_channel(host, port)
    began, cpu = time.monotonic(), time.process_time()
    step = lambda: channel.basic_publish(  # noqa: E731
        amqp.Message(BODY, delivery_mode=2), exchange="", routing_key=QUEUE)
    done = loop(seconds, step, 100)
    channel.queue_declare(QUEUE, passive=True)
    done |= {"seconds": time.monotonic() - began, "client_cpu_s": time.process_time() - cpu}
    channel.queue_delete(QUEUE)
    connection.close()
    return done


def amqp_consume(host: str, port: int, _seconds: float) -> dict:
    """py-amqp, prefetch 500, one acknowledgement per message: a whole stored backlog."""
    import amqp

    connection, channel = amqp_channel(host, port)
    for _ in range(STORED):
        channel.basic_publish(amqp.Message(BODY, delivery_mode=2), exchange="", routing_key=QUEUE)
    channel.queue_declare(QUEUE, passive=True)
    time.sleep(1)
    mark()
    count = 0

    def take(message) -> None:
        nonlocal count
        count += 1
        channel.basic_ack(message.delivery_tag)

    began, cpu = time.monotonic(), time.process_time()
    channel.basic_qos(0, 500, False)
    channel.basic_consume(QUEUE, callback=take)
    while count < STORED:
        connection.drain_events(timeout=30)
    done = {"messages": count, "seconds": time.monotonic() - began,
            "client_cpu_s": time.process_time() - cpu}
    connection.close()
    connection, channel = amqp_channel(host, port)
    channel.queue_delete(QUEUE)
    connection.close()
    return done


def mark() -> None:
    """Tell compare.py that from here on the server's processor time counts."""
    print("begin", flush=True)
    sys.stdin.readline()


ROWS = {
    "pika-confirm": pika_confirm,
    "pika-publish": pika_publish,
    "amqp-publish": amqp_publish,
    "amqp-consume": amqp_consume,
}


def main() -> None:
    """The command line; see the head."""
    row, place, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    host, port = place.rsplit(":", 1)
    if row != "amqp-consume":
        mark()
    done = ROWS[row](host, int(port), seconds)
    print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
