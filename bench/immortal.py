"""One message that is never acknowledged, and many gigabytes through the same queue.

Shows that the data directory stays bounded (the ring and about twice what is alive) although one
old message lives for ever. Starts a server of its own on loopback, needs pika, ends by itself:

    python3 bench/immortal.py --binary target/release/potager --gigabytes 20
"""

import argparse
import json
import multiprocessing
import pathlib
import signal
import subprocess
import tempfile
import time

import pika

BODY = b"x" * 64 * 1024
QUEUE = "immortal"


def connect(address):
    host, port = address.split(":")
    return pika.BlockingConnection(pika.ConnectionParameters(host, int(port), heartbeat=0))


def publish(address, messages):
    """Publishes in rounds, so that confirms keep the backlog below a few hundred messages."""
    channel = connect(address).channel()
    for _ in range(messages // 256):
        channel.tx_select()
        for _ in range(256):
            channel.basic_publish("", QUEUE, BODY, pika.BasicProperties(delivery_mode=2))
        channel.tx_commit()


def consume(address, messages):
    """Acknowledges everything but the very first message, which it holds."""
    channel = connect(address).channel()
    channel.basic_qos(prefetch_count=513)
    seen = 0
    for method, _, _ in channel.consume(QUEUE):
        seen += 1
        if seen > 1:
            channel.basic_ack(method.delivery_tag)
        if seen == messages + 1:
            return


def disk_bytes(folder):
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/potager")
    parser.add_argument("--gigabytes", type=float, default=20)
    options = parser.parse_args()
    messages = int(options.gigabytes * 1e9 / len(BODY)) // 256 * 256
    with tempfile.TemporaryDirectory() as work:
        data, ready = pathlib.Path(work, "data"), pathlib.Path(work, "ready.json")
        server = subprocess.Popen([
            options.binary, "serve", "--data-dir", data, "--amqp", "127.0.0.1:0", "--http", "off",
            "--beanstalk", "off", "--ready-file", ready])
        while not ready.exists():
            time.sleep(0.01)
        address = json.loads(ready.read_text())["amqp"]
        channel = connect(address).channel()
        channel.queue_declare(QUEUE, durable=True)
        channel.confirm_delivery()
        channel.basic_publish("", QUEUE, b"never acknowledged")
        workers = [multiprocessing.Process(target=work_, args=(address, messages))
                   for work_ in (consume, publish)]
        began = time.monotonic()
        for worker in workers:
            worker.start()
        most = 0
        while any(worker.is_alive() for worker in workers):
            most = max(most, disk_bytes(data))
            time.sleep(0.2)
        took = time.monotonic() - began
        failed = [worker.exitcode for worker in workers if worker.exitcode]
        server.send_signal(signal.SIGTERM)
        code = server.wait(20)
        print(f"{messages} messages, {messages * len(BODY) / 1e9:.1f} GB in {took:.0f} s; data "
              f"directory at most {most / 2**20:.0f} MiB; clients failed: {failed}; exit {code}")
        raise SystemExit(1 if failed or code or most > 1.2e9 else 0)


if __name__ == "__main__":
    main()
