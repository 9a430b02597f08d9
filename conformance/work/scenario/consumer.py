"""A worker as people have them: pika, prefetch 3, manual acknowledgement.

What lives here: one process that answers prompts and stores each answer by key before it
acknowledges. What does not: who starts and kills it (test_scenario.py).

Arguments: AMQP port, HTTP port, queue.
"""

from __future__ import annotations

import http.client
import json
import sys
import urllib.parse

import pika


def answer(prompt: str) -> str:
    """What the model says."""
    return prompt[::-1]


class Results:
    """Stores results over one connection."""

    def __init__(self, port: int) -> None:
        """Remember where."""
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def put(self, key: str, text: str, notes: dict) -> str:
        """Store one; says whether it was the first."""
        body = json.dumps({"body": {"answer": text}, "notes": notes})
        self.http.request("PUT", f"/work/v1/results/{urllib.parse.quote(key, '')}", body)
        response = self.http.getresponse()
        said = response.read()
        if response.status != 200:
            raise SystemExit(f"{response.status}: {said[:300]!r}")
        return json.loads(said)["outcome"]


def main() -> None:
    """Consume until somebody ends the process."""
    amqp, door, queue = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    results = Results(door)
    channel = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", amqp)).channel()
    channel.basic_qos(prefetch_count=3)

    def on_message(channel, method, properties, body) -> None:
        row = json.loads(body)
        outcome = results.put(row["hash"], answer(row["prompt"]), {"row": row["row"]})
        channel.basic_ack(method.delivery_tag)
        print(outcome, flush=True)

    channel.basic_consume(queue, on_message)
    channel.start_consuming()


if __name__ == "__main__":
    main()
