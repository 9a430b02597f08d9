"""Hostile input of an HTTP door: requests that no library would send, and JSON that is a bomb.

What lives here: raw sockets, one table. Every case is followed by the guard: the server goes on.
"""

from __future__ import annotations

import json

import pytest

from client import Raw

pytestmark = pytest.mark.usefixtures("guard")

HEAD = b"POST /work/v1/publish HTTP/1.1\r\nHost: localhost\r\n"


def body(text: bytes, more: bytes = b"") -> bytes:
    """A whole request."""
    return HEAD + more + b"Content-Length: %d\r\n\r\n" % len(text) + text


REQUESTS = {
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "length and chunks": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
                         b"2\r\n{}\r\n0\r\n\r\n",
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n",
    "length with a sign": HEAD + b"Content-Length: +2\r\n\r\n{}",
    "length of 2^64": HEAD + b"Content-Length: 18446744073709551616\r\n\r\n",
    "length of 1 TB": HEAD + b"Content-Length: 1099511627776\r\n\r\n{}",
    "chunk of 2^64": HEAD + b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
    "chunk without a number": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "unknown coding": HEAD + b"Transfer-Encoding: gzip\r\n\r\n{}",
    "a megabyte of headers": HEAD + b"".join(b"x%d: %s\r\n" % (at, b"y" * 1000)
                                             for at in range(1000)) + b"\r\n",
    "one header of 64 kB": HEAD + b"x: " + b"y" * 70_000 + b"\r\n\r\n",
    "a header with a NUL": HEAD + b"x: a\0b\r\n\r\n",
    "a bare line end in a header": HEAD + b"x: a\nContent-Length: 2\r\n\r\n{}",
    "a line of 1 MB": b"GET /work/v1/" + b"a" * 1_000_000 + b" HTTP/1.1\r\n\r\n",
    "no version": b"GET /work/v1/queues\r\n\r\n",
    "another protocol": b"AMQP\x00\x00\x09\x01",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a foreign host": HEAD.replace(b"localhost", b"attacker.example") + b"\r\n",
    "a foreign origin": body(b"{}", b"Origin: http://attacker.example\r\n"),
    "a form of another site": body(
        b"{}", b"Origin: null\r\nContent-Type: application/x-www-form-urlencoded\r\n"),
    "an odd login": body(b"{}", b"Authorization: Basic \xff\xff\r\n"),
    "a long login": body(b"{}", b"Authorization: Bearer pt_a_" + b"x" * 9000 + b"\r\n"),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_a_request_that_is_none(api, case):
    with Raw(api.port) as raw:
        raw.send(REQUESTS[case])
        raw.socket.settimeout(15)
        status = raw.status()
        assert status == 0 or 400 <= status < 500, status


def test_chunks_that_never_end(api):
    with Raw(api.port) as raw:
        raw.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(500):
            if not raw.send(piece):
                break
        raw.socket.settimeout(10)
        assert raw.status() in (0, 413)


def test_a_body_that_is_too_large(api):
    with Raw(api.port) as raw:
        length = 21 << 20
        raw.send(HEAD + b"Content-Length: %d\r\n\r\n" % length)
        for _ in range(21):
            if not raw.send(b" " * (1 << 20)):
                break
        assert raw.status() in (0, 413)


BOMBS = {
    "depth": b"[" * 1_000_000,
    "depth in an item": b'{"queue":"q","items":[' + b'{"body":' + b"[" * 100 + b"]" * 100 + b"}]}",
    "many items": b'{"queue":"q","items":[' + b"1," * 1_000_000 + b"1]}",
    "many keys": b"{" + b",".join(b'"k%d":1' % at for at in range(200_000)) + b"}",
    "duplicate keys": b'{"queue":"a","queue":"b","items":[]}',
    "not UTF-8": b'{"queue":"\xff","items":[]}',
    "half a character": b'{"queue":"\\ud800","items":[]}',
    "a number too large": b'{"queue":1e400,"items":[]}',
    "a byte order mark": b'\xef\xbb\xbf{"queue":"q","items":[]}',
    "a NUL": b'{"queue":"q\\u0000","items":[]}',
    "trailing text": b'{"queue":"q","items":[]} x',
    "nothing": b"",
    "gzip": b"\x1f\x8b\x08" + b"\0" * 100,
    "wrong type": b'{"queue":["q"],"items":"x"}',
    "a name too long": b'{"queue":"' + b"q" * 256 + b'","items":[]}',
}


@pytest.mark.parametrize("case", BOMBS)
@pytest.mark.parametrize("path", ["publish", "complete", "claim"])
def test_json_that_is_a_bomb(api, case, path):
    answer = api.call("POST", path, BOMBS[case])
    assert answer.status == 400 and answer.code in ("bad_json", "bad_request"), answer.body[:200]


def test_ten_thousand_items_with_one_wrong(api, name):
    items = [{"text": "x"}] * 9_999 + [{"text": "x", "priority": "high"}]
    answer = api.call("POST", "publish", {"queue": name("many"), "items": items}).json
    assert answer["accepted"] == 9_999
    assert answer["items"][9_999]["error"]["code"] == "bad_request"


@pytest.mark.parametrize("path", [
    "/work/v1/..%2fqueues", "/work/v1/jobs/%00", "/work/v1/jobs/..", "/work/v1/%zz",
    "/work%2f../api/users", "/../work/v1", "/work/v1/results/%", "/work/v1//queues", "/work/v1/jobs/3-1%0d%0a",
])
def test_paths_that_mean_nothing(api, path):
    assert api.call("GET", path).status in (400, 404)


@pytest.mark.parametrize("hostile", [
    "<img onerror=alert(1)>", "${7*7}", "=cmd|' /C calc'!A0", "\u202egnp", "'; drop table--", "../../x",
])
def test_names_stay_text(api, worker, hostile, name):
    queue = hostile + name()
    api.publish(queue, {"key": hostile, "text": hostile, "headers": {hostile: hostile}})
    [item] = api.claim(worker, queue)
    assert (item["queue"], item["key"], item["headers"]) == (queue, hostile, {hostile: hostile})
    assert json.dumps(item)


@pytest.mark.parametrize("bad", ["a\r\nb", "a\x00b", "a\x1bb", ""])
def test_names_have_no_control_characters(api, bad):
    answer = api.call("POST", "publish", {"queue": bad, "items": [{"text": "x"}]})
    assert answer.code == "bad_request"
    answer = api.call("POST", "claim", {"worker": bad, "queues": ["q"]})
    assert answer.code == "bad_request"
    item = {"text": "x", "content_type": bad}
    answer = api.call("POST", "publish", {"queue": "never", "items": [item]})
    assert answer.json["accepted"] == 0


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "OPTIONS", "PATCH", "ODD"])
def test_methods_that_mean_nothing(api, method):
    with Raw(api.port) as raw:
        raw.send(method.encode() + b" /work/v1/queues HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert 400 <= raw.status() < 500
