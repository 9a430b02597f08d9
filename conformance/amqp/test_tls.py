"""Unmodified clients over TLS: pika, kombu and Celery, Python's own ssl, and hostile peers.

What lives here: encryption of the doors, logins by certificate, certificates that change. What
does not: AMQP itself (the other tests), servers and certificates (tls_server.py,
certificates.py).
"""

from __future__ import annotations

import base64
import json
import resource
import signal
import socket
import ssl
import subprocess
import time
import urllib.error

import pika
import pytest
from pika.exceptions import AMQPError, ConnectionClosedByBroker, ProbableAuthenticationError

from certificates import Authority
from conftest import BINARY, parameters
from frames import HEADER
from harness.server import rss_bytes
from support import put, take, until
from tls_server import TlsServer

MIB = 1 << 20
HANDSHAKE_S = 5.0

pytestmark = [
    pytest.mark.owns_server,
    pytest.mark.potager_only("its certificates and settings are Potager's own"),
]


def external(server: TlsServer, client) -> pika.BlockingConnection:
    """Log in by certificate."""
    return server.connect(client, credentials=pika.credentials.ExternalCredentials())


def is_over(session: socket.socket, limit_s: float = 10.0) -> bool:
    """Whether the other side ends it within the limit."""
    session.settimeout(limit_s)
    try:
        while session.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def client_hello() -> bytes:
    """The first bytes of a TLS client."""
    outgoing = ssl.MemoryBIO()
    session = ssl.create_default_context().wrap_bio(
        ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return outgoing.read()


def test_pika_publishes_confirms_and_consumes(shared, name):
    connection = shared.connect()
    channel = connection.channel()
    channel.confirm_delivery()
    queue = name()
    channel.queue_declare(queue, durable=True)
    for number in range(100):
        put(channel, queue, number, delivery_mode=2)
    assert [take(channel, queue)[2] for _ in range(100)] == [b"%d" % n for n in range(100)]
    assert '"ssl":true' in shared.ask("/api/connections").decode()
    connection.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_large_messages_both_ways(shared, name, version):
    context = shared.context()
    context.minimum_version = context.maximum_version = version
    connection = shared.connect(context=context)
    channel = connection.channel()
    channel.confirm_delivery()
    queue = name()
    channel.queue_declare(queue)
    body = bytes(range(256)) * (8 * MIB // 256)
    for _ in range(5):
        put(channel, queue, body)
    for _ in range(5):
        assert take(channel, queue)[2] == body
    connection.close()


def test_a_slow_reader_gets_everything(shared, name):
    """More than any buffer holds waits for a client that does not read."""
    connection = shared.connect()
    channel = connection.channel()
    queue = name()
    channel.queue_declare(queue)
    for number in range(300):
        put(channel, queue, number.to_bytes(4, "big") * 32768)
    seen = []
    channel.basic_qos(prefetch_count=0)
    channel.basic_consume(queue, lambda c, m, p, body: seen.append(body), auto_ack=True)
    time.sleep(2)
    until(lambda: connection.process_data_events(0.05) or len(seen) == 300, 60, "all of them")
    assert [body[:4] for body in seen] == [number.to_bytes(4, "big") for number in range(300)]
    connection.close()


def test_a_client_that_trusts_somebody_else_refuses(shared, tmp_path):
    other = ssl.create_default_context(cafile=Authority(tmp_path / "other").path)
    with pytest.raises(ssl.SSLCertVerificationError):
        shared.raw(other)
    until(lambda: "a TLS connection was not made" in shared.log, what="a line in the log")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_are_refused(shared, version):
    context = shared.context()
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError) as refusal:
        shared.raw(context)
    assert "ALERT" in refusal.value.reason, "the server says no, not this library"


def test_http_over_tls_is_the_same_door(shared):
    assert b"ok" in shared.ask("/health/ready")
    metrics = shared.ask("/metrics").decode()
    line = next(line for line in metrics.splitlines()
                if line.startswith("potager_tls_certificate_expiry_seconds "))
    assert 19 * 86400 < int(line.split()[1]) <= 20 * 86400
    with pytest.raises(urllib.error.HTTPError) as refusal:
        shared.ask("/api/overview", login=base64.b64encode(b"guest:wrong").decode())
    assert refusal.value.code == 401


def test_whoever_mistakes_the_port_is_shown_out(shared):
    before = shared.log.count("a client without TLS spoke to the TLS port")
    for words in (HEADER, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", shared.port)) as plain:
            plain.sendall(words)
            assert plain.recv(100) == b"", "nothing is said"
    until(lambda: shared.log.count("a client without TLS spoke to the TLS port") == before + 2)
    before = shared.log.count("a TLS client spoke to the plain AMQP port")
    with socket.create_connection(("127.0.0.1", shared.server.port)) as plain:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            shared.context().wrap_socket(plain, server_hostname="localhost")
    until(lambda: shared.log.count("a TLS client spoke to the plain AMQP port") == before + 1)


def test_a_handshake_that_drips_is_cut(shared):
    """One byte a second keeps no connection longer than five."""
    hello = client_hello()
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", shared.port)) as slow:
        slow.settimeout(1)
        ended = None
        for byte in hello:
            try:
                slow.sendall(bytes([byte]))
                if slow.recv(1) == b"":
                    ended = time.monotonic()
                    break
            except TimeoutError:
                continue
            except OSError:
                ended = time.monotonic()
                break
    assert ended and HANDSHAKE_S - 1 < ended - begin < HANDSHAKE_S + 3


def test_a_thousand_half_open_handshakes_cost_little(tls_server):
    """Promise: P14."""
    server = tls_server()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    server.connect().close()
    half = client_hello()[:100]
    before = rss_bytes(server.server.pid)
    opened = []
    for _ in range(1000):
        one = socket.create_connection(("127.0.0.1", server.port))
        one.sendall(half)
        opened.append(one)
    begin = time.monotonic()
    server.connect().close()
    assert time.monotonic() - begin < 3, "others are served meanwhile"
    grown = rss_bytes(server.server.pid) - before
    assert grown < 24 * MIB, f"{grown} bytes for 1000"
    assert all(is_over(one, HANDSHAKE_S + 5) for one in opened)
    for one in opened:
        one.close()
    server.connect().close()


def test_garbage_behind_a_good_beginning_ends_the_connection(shared):
    tails = (b"\0" * 1000, b"\x16\x03\x03\xff\xff" + b"x" * 20000, b"\x17\x03\x03\x40\x00" * 50)
    for tail in tails:
        with socket.create_connection(("127.0.0.1", shared.port)) as plain:
            plain.sendall(client_hello() + tail)
            assert is_over(plain)
    shared.connect().close()


def test_a_certificate_is_the_login(mutual):
    server, clients = mutual
    server.add_user("ann")
    connection = external(server, clients.client("ann"))
    connection.channel().queue_declare("hers", exclusive=True)
    assert '"user":"ann"' in server.ask("/api/connections").decode().replace(" ", "")
    connection.close()
    # A password works too, behind a certificate.
    server.connect(clients.client("bob")).close()


def test_a_certificate_of_nobody_is_refused(mutual):
    server, clients = mutual
    for name in ("nobody", "guest\x01", "x" * 64):
        with pytest.raises((ProbableAuthenticationError, ConnectionClosedByBroker)) as refusal:
            external(server, clients.client(name, stem="odd"))
        assert "ACCESS_REFUSED" in str(refusal.value)


def test_bad_client_certificates_are_refused(mutual, tmp_path):
    server, clients = mutual
    server.add_user("ann")
    strangers = Authority(tmp_path / "strangers", "clients' authority")
    for client in (None, clients.client("ann", days=-1, stem="expired"), strangers.client("ann")):
        with pytest.raises((AMQPError, ssl.SSLError, ConnectionError)):
            external(server, client)
    external(server, clients.client("ann")).close()


def test_optional_certificates_and_names_from_the_alternative_names(tls_server, tmp_path):
    clients = Authority(tmp_path / "clients")
    server = tls_server("--set", "tls.client_certificates=optional",
                        "--set", f"tls.client_ca_file={clients.path}",
                        "--set", "tls.client_name=san_email")
    server.add_user("ann@garden.example")
    external(server, clients.client("ann")).close()
    server.connect().close()
    with pytest.raises((ProbableAuthenticationError, ConnectionClosedByBroker)):
        external(server, None)
    with pytest.raises((AMQPError, ssl.SSLError, ConnectionError)):
        external(server, Authority(tmp_path / "strangers").client("ann"))


def test_external_is_not_offered_to_whom_it_does_not_serve(shared):
    with pytest.raises(AMQPError):
        external(shared, None)


def test_a_new_certificate_is_used_and_old_connections_go_on(tls_server, name):
    server = tls_server()
    connection = server.connect()
    channel = connection.channel()
    first = server.serial()
    server.authority.server()
    server.hang_up()
    until(lambda: server.serial() != first, what="another certificate")
    queue = name()
    channel.queue_declare(queue)
    put(channel, queue, "still here")
    assert take(channel, queue)[2] == b"still here"
    second = server.serial()
    server.authority.server()
    until(lambda: server.serial() != second, 15, "a change on disk is seen without a signal")
    connection.close()


def test_broken_files_change_nothing(tls_server):
    server = tls_server()
    first = server.serial()
    good = server.certificate.read_bytes()
    server.certificate.write_bytes(b"-----BEGIN CERTIFICATE-----\nnonsense\n")
    server.hang_up()
    until(lambda: "everything stays as it was" in server.log, what="a line in the log")
    assert server.serial() == first
    server.certificate.write_bytes(good)
    server.key.chmod(0o644)
    server.hang_up()
    until(lambda: "chmod 600" in server.log, what="an exposed key is named")
    assert server.serial() == first
    server.key.chmod(0o600)
    server.connect().close()


def test_the_authority_of_clients_can_be_changed(mutual, tmp_path):
    server, clients = mutual
    server.add_user("ann")
    old = clients.client("ann")
    external(server, old).close()
    successor = Authority(tmp_path / "successor")
    clients.path.write_bytes(successor.path.read_bytes())
    server.hang_up()
    new = successor.client("ann")
    until(lambda: "read again" in server.log, what="a line in the log")
    external(server, new).close()
    with pytest.raises((AMQPError, ssl.SSLError, ConnectionError)):
        external(server, old)


def test_settings_are_read_again(tls_server, tmp_path):
    settings = tmp_path / "potager.toml"
    settings.write_text("[amqp]\nheartbeat_s = 33\n[limits]\nqueues_max = 100\n")
    server = tls_server("--config", str(settings))
    seen = []

    def look() -> None:
        server.connect(heartbeat=lambda _, proposed: seen.append(proposed) or proposed).close()

    look()
    settings.write_text("[amqp]\nheartbeat_s = 44\n[limits]\nqueues_max = 200\n")
    server.hang_up()
    until(lambda: "limits.queues_max" in server.log, what="what needs a restart is named")
    look()
    settings.write_text("[amqp]\nheartbeat_s = 55\nlisen = 1\n")
    server.hang_up()
    until(lambda: "did you mean" in server.log, what="the mistake is named")
    look()
    assert seen == [33, 44, 44]


def test_auto_makes_its_own_authority(own_server):
    server = own_server("--tls", "auto", "--amqps", "127.0.0.1:0", "--https", "off")
    folder = server.data_dir / "tls"
    assert (folder / "ca.key").stat().st_mode & 0o077 == 0
    doors = json.loads(server.data_dir.with_suffix(".ready").read_text())
    assert "https" not in doors
    port = int(doors["amqps"].rsplit(":", 1)[1])
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    for host in ("localhost", "127.0.0.1"):
        options = pika.SSLOptions(context, host)
        pika.BlockingConnection(parameters(port, ssl_options=options)).close()
    before = (folder / "ca.pem").read_bytes()
    server.stop()
    server.start()
    assert (folder / "ca.pem").read_bytes() == before


def test_a_server_without_usable_files_does_not_start(tmp_path, authority):
    certificate, key = authority.server("unused")
    key.chmod(0o644)
    for settings, words in (
        ((), ("tls.certificate_file is not set", "--tls auto")),
        ((f"tls.certificate_file={certificate}",), ("tls.key_file is not set",)),
        ((f"tls.certificate_file={certificate}", "tls.key_file=/nowhere.key"), ("/nowhere.key",)),
        ((f"tls.certificate_file={certificate}", f"tls.key_file={key}"), ("chmod 600",)),
        (("tls.client_certificates=required", f"tls.certificate_file={certificate}",
          f"tls.key_file={key}"), ("tls.client_ca_file",)),
    ):
        pairs = [word for setting in settings for word in ("--set", setting)]
        done = subprocess.run(
            [BINARY, "serve", "--data-dir", str(tmp_path / "data"), "--amqp", "127.0.0.1:0",
             "--http", "off", "--beanstalk", "off", "--amqps", "127.0.0.1:0", *pairs],
            capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 2, done.stderr
        assert all(word in done.stderr for word in words), done.stderr
        assert not (tmp_path / "data").exists(), "nothing was begun"


def test_commands_ask_over_https(shared, tmp_path):
    url = f"https://localhost:{shared.https}"

    def ask(*more):
        return subprocess.run([BINARY, "vhosts", "list", "--json", "--url", url, *more],
                              capture_output=True, text=True, timeout=20, check=False)

    done = ask("--ca-file", str(shared.authority.path))
    assert done.returncode == 0 and "/" in done.stdout, done.stderr
    done = ask()
    assert done.returncode == 1 and "--ca-file" in done.stderr, done.stderr
    done = ask("--ca-file", str(Authority(tmp_path / "other").path))
    assert done.returncode == 1 and "certificate" in done.stderr, done.stderr


def test_publish_and_get_over_amqps(shared, name, tmp_path):
    queue = name()

    def run(command, *more, ca=shared.authority.path):
        return subprocess.run(
            [BINARY, command, "--url", f"amqps://localhost:{shared.port}", "--ca-file", str(ca),
             *more], capture_output=True, text=True, timeout=30, check=False)

    done = run("publish", "--declare", "--queue", queue, "over the wire")
    assert done.returncode == 0, done.stderr
    done = run("get", queue)
    assert (done.returncode, done.stdout.strip()) == (0, "over the wire"), done.stderr
    done = run("get", queue, ca=Authority(tmp_path / "other").path)
    assert done.returncode == 1 and "--ca-file" in done.stderr, done.stderr


def test_kombu_logs_in_by_certificate(mutual):
    import kombu

    server, clients = mutual
    server.add_user("ann")
    certificate, key = clients.client("ann")
    ssl_options = {"ca_certs": str(server.authority.path), "certfile": str(certificate),
                   "keyfile": str(key), "cert_reqs": ssl.CERT_REQUIRED}
    with kombu.Connection(f"amqps://localhost:{server.port}//", ssl=ssl_options,
                          login_method="EXTERNAL", userid=None, password=None) as connection:
        connection.connect()
        assert '"user":"ann"' in server.ask("/api/connections").decode()


def test_celery_over_tls(shared, name):
    """broker_use_ssl of unmodified Celery, with results over the same connection."""
    import celery
    from celery.contrib.testing.worker import start_worker

    app = celery.Celery(
        name("app"), broker=f"amqps://guest:guest@localhost:{shared.port}//", backend="rpc://")
    app.conf.update(
        broker_use_ssl={"ca_certs": str(shared.authority.path), "cert_reqs": ssl.CERT_REQUIRED},
        task_default_queue=name("queue"), broker_connection_retry_on_startup=False)

    @app.task(name="add")
    def add(left, right):
        return left + right

    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=20):
        assert [add.delay(n, 1).get(timeout=20) for n in range(20)] == list(range(1, 21))


def test_a_server_that_stops_says_goodbye_over_tls(tls_server):
    """Promise: P19."""
    server = tls_server()
    connection = server.connect()
    server.server.process.send_signal(signal.SIGTERM)
    with pytest.raises(ConnectionClosedByBroker) as goodbye:
        while True:
            connection.process_data_events(1)
    assert goodbye.value.reply_code == 320
    assert server.server.stop() == 0
