"""Celery, unmodified: bodies in every serializer and compression, signed bodies, and every pool.

What lives here: that what goes in comes out, whoever packs it. What does not: what tasks do
(test_celery_tasks.py).
"""

from __future__ import annotations

import datetime
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from support import until

LIMIT_S = 30
VALUES = {
    "json": {"text": "gärten \u2603", "n": [1, -2, 3.5, None, True], "deep": {"a": {"b": []}}},
    "msgpack": {"text": "gärten \u2603", "bytes": b"\x00\xff", "n": [1, 1 << 40, 2.5]},
    "yaml": {"text": "gärten \u2603", "n": [1, 2.5, None], "multi": "one\ntwo\n"},
    "pickle": {"bytes": b"\x00\xff", "set": {1, 2}, "when": datetime.datetime(2026, 1, 2)},
}
COMPRESSIONS = ("zlib", "bzip2", "gzip", "zstd", "lzma")


@pytest.mark.parametrize("serializer", VALUES)
def test_serializer_and_compressions(plant, serializer):
    garden = plant(task_serializer=serializer, result_serializer=serializer,
                   accept_content=[serializer, "json"])
    garden.worker()
    echo = garden.task("echo")
    value = VALUES[serializer]
    plain = [echo.delay(value)]
    packed = [echo.apply_async((value,), compression=kind) for kind in COMPRESSIONS]
    large = echo.apply_async(({"large": "0123456789" * 40_000},), compression="zlib")
    for result in plain + packed:
        assert result.get(timeout=LIMIT_S) == value
    assert len(large.get(timeout=LIMIT_S)["large"]) == 400_000


def certificate(room):
    """A key and a self-signed certificate, as `auth` wants them: (key, certificate)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "garden")])
    now = datetime.datetime.now(datetime.timezone.utc)
    cert = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(uuid.uuid4().int >> 1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2)).sign(key, hashes.SHA256())
    )
    key_file, cert_file = room / "garden.key", room / "garden.pem"
    key_file.write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption()))
    cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    return key_file, cert_file


SIGNED = """
import sys
from apps import garden
app = garden.make({broker!r}, **{settings!r})
print(app.tasks["garden.echo"].delay({{"signed": "yes"}}).get(timeout=30))
"""


def test_signed_bodies(plant, tmp_path):
    key, cert = certificate(tmp_path)
    garden = plant()
    garden.settings.update(
        security_key=str(key), security_certificate=str(cert),
        security_cert_store=str(tmp_path / "*.pem"), security_digest="sha256",
        task_serializer="auth", result_serializer="json", event_serializer="auth",
        accept_content=["auth"], result_accept_content=["json"],
    )
    garden.worker()
    # `setup_security` switches off all other content types of a process, so the client is one
    # of its own.
    client = subprocess.run(
        [sys.executable, "-c", SIGNED.format(broker=garden.broker, settings=garden.settings)],
        capture_output=True, text=True, timeout=60, check=False,
        cwd=Path(__file__).parent,
    )
    assert client.stdout.strip() == "{'signed': 'yes'}", client.stderr[-2000:]


@pytest.mark.parametrize("pool,count", [
    ("prefork", 2), ("threads", 4), ("solo", 1), ("gevent", 20), ("eventlet", 20),
])
def test_pool(plant, pool, count):
    garden = plant()
    worker = garden.worker(pool=pool, count=count)
    add = garden.task("add")
    pending = [add.delay(number, 1) for number in range(50)]
    assert [result.get(timeout=LIMIT_S) for result in pending] == list(range(1, 51))
    with pytest.raises(ValueError):
        garden.task("fail").delay("in a pool").get(timeout=LIMIT_S)
    late = garden.task("mark").apply_async(("eta",), countdown=1)
    assert late.get(timeout=LIMIT_S) == "eta"
    assert garden.app.control.inspect([worker.node], timeout=3).ping()
    assert worker.stop() == 0
    with garden.app.connection_for_write() as connection:
        channel = connection.default_channel
        until(lambda: channel.queue_declare(garden.queue, passive=True).message_count == 0)
