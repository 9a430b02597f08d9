"""Actions to bytes: one method (with content where it belongs) per action.

What lives here: the encoders. What does not: what an action's answer is (player.py). Sources: AMQP
0-9-1, the XML of the methods; RabbitMQ "Protocol extensions".
"""

from __future__ import annotations

import struct

from peer import frames

SHORT, LONG, METHOD = frames.short, frames.long, frames.method


def field(value: object) -> bytes:
    """A field value with its tag."""
    if value is None:
        return b"V"
    if isinstance(value, bool):
        return b"t" + bytes([value])
    if isinstance(value, int) and abs(value) < 1 << 31:
        return b"I" + struct.pack(">i", value)
    if isinstance(value, int):
        return b"l" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"d" + struct.pack(">d", value)
    if isinstance(value, list):
        return b"A" + LONG(b"".join(field(item) for item in value))
    return b"S" + LONG(str(value))


def table(pairs: list) -> bytes:
    """A field table with its length."""
    return frames.table(*((name, field(value)) for name, value in pairs))


def bits(action: dict, *names: str) -> bytes:
    """Neighbouring bits, the first lowest."""
    return bytes([sum(1 << at for at, name in enumerate(names) if action.get(name))])


def properties(given: dict) -> tuple[int, bytes]:
    """Flags and values of a property list."""
    order = ("content_type", "content_encoding", "headers", "delivery_mode", "priority",
             "correlation_id", "reply_to", "expiration", "message_id", "timestamp", "type",
             "user_id", "app_id", "cluster_id")
    flags, out = 0, b""
    for at, name in enumerate(order):
        if name not in given:
            continue
        flags |= 1 << (15 - at)
        value = given[name]
        if name == "headers":
            out += table(value)
        elif name in ("delivery_mode", "priority"):
            out += bytes([value])
        else:
            out += SHORT(value)
    return flags, out


class Names:
    """Puts a prefix on every name that a sequence makes, and takes it off again."""

    def __init__(self, prefix: str) -> None:
        """Names of one run on one server; server-made names are numbered as they come."""
        self.prefix = prefix
        self.made: dict[str, str] = {}

    def on(self, name: str) -> str:
        """The name as the server knows it."""
        is_own = name and not name.startswith("amq.")
        return self.prefix + name if is_own else name

    def off(self, text: str) -> str:
        """The text without prefixes and with server-made names numbered."""
        text = text.replace(self.prefix, "")
        for made, number in self.made.items():
            text = text.replace(made, number)
        return text

    def learn(self, name: str) -> None:
        """A server-made name."""
        self.made.setdefault(name, f"<made {len(self.made)}>")


def method(action: dict, names: Names, body: bytes) -> bytes:
    """The bytes of an action; `body` is what a publish carries."""
    do, channel = action["do"], action["ch"]
    on = names.on
    ticket = b"\x00\x00"
    if do == "declare":
        return METHOD(channel, 50, 10, ticket + SHORT(on(action["queue"])) + bits(
            action, "passive", "durable", "exclusive", "auto_delete", "nowait")
            + table(renamed(action["args"], names)))
    if do == "exchange":
        return METHOD(channel, 40, 10, ticket + SHORT(on(action["exchange"])) + SHORT(
            action["kind"]) + bits(action, "passive", "durable", "auto_delete", "internal",
                                   "nowait") + table(renamed(action["args"], names)))
    if do in ("bind", "unbind"):
        nowait = b"\x00" if do == "bind" else b""
        return METHOD(channel, 50, 20 if do == "bind" else 50, ticket + SHORT(
            on(action["queue"])) + SHORT(on(action["exchange"])) + SHORT(action["key"]) + nowait
            + table(action["args"]))
    if do in ("exchange_bind", "exchange_unbind"):
        return METHOD(channel, 40, 30 if do == "exchange_bind" else 40, ticket + SHORT(
            on(action["destination"])) + SHORT(on(action["source"])) + SHORT(action["key"])
            + b"\x00" + table([]))
    if do == "publish":
        return publish(action, names, body)
    if do == "get":
        return METHOD(channel, 60, 70, ticket + SHORT(on(action["queue"])) + bits(action, "no_ack"))
    if do == "consume":
        return METHOD(channel, 60, 20, ticket + SHORT(on(action["queue"])) + SHORT(action["tag"])
                      + bits(action, "no_local", "no_ack", "exclusive", "nowait")
                      + table(action["args"]))
    return small(action, names)


def small(action: dict, names: Names) -> bytes:
    """Methods with little in them."""
    do, channel, ticket = action["do"], action["ch"], b"\x00\x00"
    queue = SHORT(names.on(action.get("queue", "")))
    if do == "delete":
        return METHOD(channel, 50, 40, ticket + queue + bits(action, "if_unused", "if_empty"))
    if do == "exchange_delete":
        name = SHORT(names.on(action["exchange"]))
        return METHOD(channel, 40, 20, ticket + name + bits(action, "if_unused"))
    if do == "qos":
        return METHOD(channel, 60, 10, struct.pack(">IH", action["size"], action["count"])
                      + bits(action, "global"))
    if do == "cancel":
        return METHOD(channel, 60, 30, SHORT(action["tag"]) + b"\x00")
    table_of = {
        "purge": (50, 30, ticket + queue + b"\x00"),
        "recover": (60, 110, bits(action, "requeue")),
        "recover_async": (60, 100, bits(action, "requeue")),
        "flow": (20, 20, bits(action, "active")),
        "open_twice": (20, 10, SHORT("")),
        "confirm": (85, 10, b"\x00"),
        "tx": (90, 10, b""),
        "commit": (90, 20, b""),
        "rollback": (90, 30, b""),
    }
    class_id, method_id, arguments = table_of[do]
    return METHOD(channel, class_id, method_id, arguments)


def settle(action: dict, tag: int, multiple: bool) -> bytes:
    """ack, nack or reject of a tag."""
    channel = action["ch"]
    if action["do"] == "ack":
        return METHOD(channel, 60, 80, struct.pack(">QB", tag, multiple))
    if action["do"] == "reject":
        return METHOD(channel, 60, 90, struct.pack(">QB", tag, action["requeue"]))
    bits = multiple | action["requeue"] << 1
    return METHOD(channel, 60, 120, struct.pack(">QB", tag, bits))


def publish(action: dict, names: Names, body: bytes) -> bytes:
    """basic.publish with its content."""
    key = action["key"] if action["exchange"] else names.on(action["key"])
    given = dict(action["props"])
    if "headers" in given:
        lists = ("CC", "BCC")
        given["headers"] = [
            [name, [names.on(key) if not action["exchange"] and isinstance(key, str) else key
                    for key in value] if name in lists and isinstance(value, list) else value]
            for name, value in given["headers"]]
    flags, fields = properties(given)
    start = METHOD(action["ch"], 60, 40, b"\x00\x00" + SHORT(names.on(action["exchange"]))
                   + SHORT(key) + bits(action, "mandatory", "immediate"))
    content = frames.header(action["ch"], len(body), flags, fields)
    return start + content + (frames.body(action["ch"], body) if body else b"")


def renamed(pairs: list, names: Names) -> list:
    """Arguments with the names in them as the server knows them."""
    named = ("x-dead-letter-exchange", "alternate-exchange")
    out = []
    for name, value in pairs:
        if name in named and isinstance(value, str):
            value = names.on(value)
        elif name == "x-dead-letter-routing-key" and str(value).startswith("q"):
            value = names.on(str(value))
        out.append((name, value))
    return out
