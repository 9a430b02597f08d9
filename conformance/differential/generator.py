"""Sequences of actions from a seed: plain data, so that they can be printed, cut and replayed.

What lives here: which methods with which arguments, legal and illegal, how often. What does not:
sending them (player.py). Where a named deviation of Potager would end nearly every sequence, the
generator steers around it; the comment says which.
"""

from __future__ import annotations

import random

QUEUES = ("q0", "q1", "q2", "q3", "")
EXCHANGES = ("e0", "e1", "e2", "amq.direct", "amq.fanout", "amq.topic", "amq.headers")
KEYS = ("a", "a.b", "a.b.c", "b", "")
PATTERNS = ("a", "a.b", "a.*", "#", "*.b.#", "b", "")
TAGS = ("c0", "c1", "")
KINDS = ("direct", "fanout", "topic", "headers")

# Arguments of a queue that both servers take; each is (name, value).
LEGAL = (
    ("x-max-length", 2), ("x-max-length", 1), ("x-max-length", 0), ("x-max-length-bytes", 10),
    ("x-message-ttl", 60000), ("x-message-ttl", 0), ("x-expires", 60000), ("x-max-priority", 5),
    ("x-dead-letter-exchange", ""), ("x-dead-letter-exchange", "e0"),
    ("x-dead-letter-exchange", "amq.fanout"), ("x-overflow", "reject-publish"),
    ("x-overflow", "drop-head"), ("x-single-active-consumer", True), ("x-queue-mode", "lazy"),
    ("x-queue-type", "classic"), ("x-unknown", 1),
)
# Arguments that are wrong, or doubtful.
WRONG = (
    ("x-message-ttl", -1), ("x-message-ttl", "abc"), ("x-message-ttl", 1 << 62),
    ("x-message-ttl", 1.5), ("x-expires", 0), ("x-expires", -5), ("x-expires", "1"),
    ("x-max-length", -1), ("x-max-length", "2"), ("x-max-priority", 256), ("x-max-priority", -1),
    ("x-max-priority", 0), ("x-max-priority", "5"), ("x-overflow", "nonsense"), ("x-overflow", 1),
    ("x-queue-type", "nonsense"), ("x-queue-type", 7), ("x-dead-letter-exchange", 5),
    ("x-dead-letter-routing-key", "a"), ("x-single-active-consumer", "yes"),
    ("x-max-length-bytes", -3), ("x-max-length-bytes", True),
)


class Model:
    """What the generator believes, to make likely what is interesting."""

    def __init__(self) -> None:
        """Nothing is there."""
        self.consumed: set[str] = set()
        self.mode: dict[tuple[int, int], str] = {}
        self.consumers: dict[tuple[int, int], int] = {}


def sequence(seed: int, length: int) -> list[dict]:
    """The sequence of a seed."""
    dice, model = random.Random(seed), Model()
    # A few declarations first, or most of what follows would only find nothing.
    start = [declare_queue(dice, 0, 1) for _ in range(2)] + [declare_exchange(dice, 0, 1)]
    start += [{"do": "bind", "conn": 0, "ch": 1, "queue": dice.choice(QUEUES[:3]),
               "exchange": dice.choice(EXCHANGES), "key": dice.choice(PATTERNS), "args": []}]
    return start + [action(dice, model) for _ in range(length)]


def action(dice: random.Random, model: Model) -> dict:
    """One action on a random channel."""
    conn, ch = dice.randrange(2), 1 + dice.randrange(2)
    makers = (
        (10, declare_queue), (4, declare_exchange), (30, publish), (9, get), (12, settle),
        (2, simple), (5, bind), (2, exchange_bind), (2, delete),
    )
    where = (conn, ch)
    roll = dice.random()
    if roll < 0.08:
        return consume(dice, model, conn, ch)
    if roll < 0.12:
        return cancel(dice, conn, ch)
    if roll < 0.17:
        return mode(dice, model, conn, ch)
    if roll < 0.20 and not model.consumers.get(where):
        # AMQP-010: prefetch changes live consumers too, so it is set before they start.
        return {"do": "qos", "conn": conn, "ch": ch, "count": dice.choice((0, 1, 2, 3)),
                "size": dice.choice((0, 0, 0, 0, 0, 1)), "global": dice.random() < 0.3}
    maker = dice.choices([maker for _, maker in makers], [weight for weight, _ in makers])[0]
    made = maker(dice, conn, ch)
    if made["do"] == "publish" and model.mode.get(where) == "tx":
        # AMQP-008: what is missing inside a transaction is told by the commit.
        made["exchange"] = dice.choice(("", "amq.direct", "amq.fanout"))
        made["props"].pop("user_id", None)
    return made


def declare_queue(dice: random.Random, conn: int, ch: int) -> dict:
    """queue.declare."""
    arguments = []
    if dice.random() < 0.5:
        arguments = [list(pair) for pair in dice.sample(LEGAL, dice.randrange(1, 4))]
        if any(name == "x-dead-letter-exchange" for name, _ in arguments) and dice.random() < 0.6:
            arguments.append(["x-dead-letter-routing-key", dice.choice(("q0", "q1", "a"))])
    if dice.random() < 0.05:
        arguments.append(list(dice.choice(WRONG)))
    names: dict[str, list] = {}
    for pair in arguments:
        names.setdefault(pair[0], pair)
    return {
        "do": "declare", "conn": conn, "ch": ch, "queue": dice.choice(QUEUES),
        "passive": dice.random() < 0.08, "durable": dice.random() < 0.5,
        "exclusive": dice.random() < 0.12, "auto_delete": dice.random() < 0.15,
        "nowait": dice.random() < 0.05, "args": list(names.values()),
    }


def declare_exchange(dice: random.Random, conn: int, ch: int) -> dict:
    """exchange.declare."""
    arguments = []
    if dice.random() < 0.15:
        arguments.append(["alternate-exchange", dice.choice(EXCHANGES)])
    kind = dice.choice(KINDS) if dice.random() < 0.99 else dice.choice(("", "nonsense"))
    return {
        "do": "exchange", "conn": conn, "ch": ch, "exchange": dice.choice(EXCHANGES), "kind": kind,
        "passive": dice.random() < 0.1, "durable": dice.random() < 0.5,
        "auto_delete": dice.random() < 0.2, "internal": dice.random() < 0.1,
        "nowait": dice.random() < 0.05, "args": arguments,
    }


def publish(dice: random.Random, conn: int, ch: int) -> dict:
    """basic.publish, mostly to the default exchange."""
    properties: dict[str, object] = {}
    if dice.random() < 0.5:
        properties["delivery_mode"] = dice.choice((1, 2))
    if dice.random() < 0.25:
        properties["priority"] = dice.choice((0, 1, 5, 9, 255))
    if dice.random() < 0.08:
        properties["expiration"] = dice.choice(("60000", "60000", "0", "0", "30", "30", "abc", "-1", "", "1.5"))
    if dice.random() < 0.25:
        properties["headers"] = headers(dice)
    if dice.random() < 0.04:
        properties["user_id"] = dice.choice(("guest", "mallory"))
    for name in ("content_type", "correlation_id", "reply_to", "message_id", "type", "app_id"):
        if dice.random() < 0.05:
            properties[name] = "text"
    is_default = dice.random() < 0.6
    return {
        "do": "publish", "conn": conn, "ch": ch,
        "exchange": "" if is_default else dice.choice(EXCHANGES + ("missing",)),
        "key": dice.choice(QUEUES[:4]) if is_default else dice.choice(KEYS),
        "mandatory": dice.random() < 0.25, "immediate": dice.random() < 0.01,
        "props": properties, "size": dice.choice((0, 1, 5, 20, 200)),
    }


def headers(dice: random.Random) -> list:
    """A header table with names that bindings ask for."""
    found = [["x", dice.choice((1, 2, "1", True))]]
    if dice.random() < 0.3:
        found.append(["y", dice.choice(("a", None))])
    if dice.random() < 0.15:
        found.append([dice.choice(("CC", "BCC")), dice.choices(
            (["q1", "q2"], ["a"], [], "q1", [1]), (5, 5, 2, 1, 1))[0]])
    return found


def bind(dice: random.Random, conn: int, ch: int) -> dict:
    """queue.bind or queue.unbind."""
    exchange, arguments = dice.choice(EXCHANGES + ("missing", "")), []
    # AMQP-003: x-match is checked for every type of exchange, so only legal ones are sent there.
    if exchange == "amq.headers" or dice.random() < 0.1:
        arguments = [["x", dice.choice((1, 2, "1", None))]]
        if dice.random() < 0.6:
            arguments.append(["x-match", dice.choice(("all", "any"))])
    return {
        "do": "bind" if dice.random() < 0.75 else "unbind", "conn": conn, "ch": ch,
        "queue": dice.choice(QUEUES), "exchange": exchange, "key": dice.choice(PATTERNS),
        "args": arguments,
    }


def exchange_bind(dice: random.Random, conn: int, ch: int) -> dict:
    """exchange.bind or exchange.unbind.

    One end is always the sequence's own: what stood between two built-in ones would outlive it.
    """
    ends = [dice.choice(EXCHANGES + ("",)), dice.choice(EXCHANGES[:3])]
    dice.shuffle(ends)
    return {
        "do": "exchange_bind" if dice.random() < 0.75 else "exchange_unbind", "conn": conn,
        "ch": ch, "destination": ends[0], "source": ends[1], "key": dice.choice(PATTERNS),
    }


def get(dice: random.Random, conn: int, ch: int) -> dict:
    """basic.get."""
    return {"do": "get", "conn": conn, "ch": ch, "queue": dice.choice(QUEUES),
            "no_ack": dice.random() < 0.4}


def settle(dice: random.Random, conn: int, ch: int) -> dict:
    """basic.ack, nack or reject of something that is out, seldom of nothing."""
    return {
        "do": dice.choice(("ack", "ack", "nack", "reject")), "conn": conn, "ch": ch,
        "pick": dice.randrange(4), "multiple": dice.random() < 0.25,
        "requeue": dice.random() < 0.5, "wrong": dice.random() < 0.04,
    }


def delete(dice: random.Random, conn: int, ch: int) -> dict:
    """queue.delete or exchange.delete."""
    if dice.random() < 0.6:
        return {"do": "delete", "conn": conn, "ch": ch, "queue": dice.choice(QUEUES),
                "if_unused": dice.random() < 0.3, "if_empty": dice.random() < 0.3}
    return {"do": "exchange_delete", "conn": conn, "ch": ch, "exchange": dice.choice(EXCHANGES),
            "if_unused": dice.random() < 0.5}


def simple(dice: random.Random, conn: int, ch: int) -> dict:
    """Purge, recover, closing a channel, leaving, and methods that few servers like."""
    do = dice.choices(
        ("purge", "recover", "reopen", "leave", "wait", "flow", "recover_async", "open_twice"),
        (6, 3, 4, 1, 2, 0.5, 1, 0.5))[0]
    return {"do": do, "conn": conn, "ch": ch, "queue": dice.choice(QUEUES),
            "requeue": dice.random() < 0.9, "active": dice.random() < 0.7}


def consume(dice: random.Random, model: Model, conn: int, ch: int) -> dict:
    """basic.consume; a second consumer of a queue asks to be alone, so that it is refused.

    Which of several consumers gets a message is nobody's promise.
    """
    queue = dice.choice(QUEUES[:4])
    is_second = queue in model.consumed
    model.consumed.add(queue)
    model.consumers[conn, ch] = model.consumers.get((conn, ch), 0) + 1
    return {
        "do": "consume", "conn": conn, "ch": ch, "queue": queue, "tag": dice.choice(TAGS),
        "no_ack": dice.random() < 0.3, "exclusive": is_second or dice.random() < 0.1,
        "no_local": dice.random() < 0.1, "nowait": False,
        "args": [["x-priority", dice.choice((1, -1, "x"))]] if dice.random() < 0.08 else [],
    }


def cancel(dice: random.Random, conn: int, ch: int) -> dict:
    """basic.cancel."""
    return {"do": "cancel", "conn": conn, "ch": ch, "tag": dice.choice(TAGS[:2] + ("nobody",))}


def mode(dice: random.Random, model: Model, conn: int, ch: int) -> dict:
    """confirm.select and the tx class, mostly in an order that makes sense."""
    where, now = (conn, ch), model.mode.get((conn, ch))
    if now == "tx" and dice.random() < 0.9:
        # AMQP-009: a rollback treats held acknowledgements in its own way; it comes seldom.
        do = "commit" if dice.random() < 0.9 else "rollback"
    elif dice.random() < 0.06:
        do = dice.choice(("commit", "rollback"))
    else:
        do = dice.choice(("confirm", "confirm", "tx"))
        model.mode.setdefault(where, do)
    return {"do": do, "conn": conn, "ch": ch}
