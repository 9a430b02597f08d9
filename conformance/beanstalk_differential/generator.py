"""Sequences of actions from a seed: plain data, so that they can be printed, cut and replayed.

What lives here: which commands with which arguments, legal and illegal, how often. What does not:
sending them (player.py). Times are whole seconds and a sleep is 1.3 s, so that nothing falls due
near the moment at which the two servers are looked at.
"""

from __future__ import annotations

import random

TUBES = ("t0", "t1", "t2", "t3")
CONNECTIONS = 3
SLEEP_S = 1.3
PRIORITIES = (0, 0, 1, 5, 5, 1023, 1024, 4_294_967_295)
DELAYS = (0, 0, 0, 0, 0, 0, 1, 1, 100, 4_294_967_295)
TTRS = (0, 1, 2, 60, 60, 60, 60, 4_294_967_295)
BODIES = ("", "x", "hello", "\r\n", "a\r\nb", "\x00\xff", "delete 1\r\n", "y" * 300)
KICKS = ("0", "1", "1", "2", "10", "4294967295", "4294967296", "4294967297", "-1", "+1", "1x", " 2")
PAUSES = (0, 0, 1, 1, 100)
# Lines that name nothing of the sequence, each with one answer. `%s` is a tube of it.
LINES = (
    "", " ", "x", "STATS", "put", "put ", "put 0 0 60", "put 0 0 60 x", "put -1 0 60 1",
    "put 0 0 60 4294967296", "put 4294967296 0 60 1", "put 0 0 60 1 ", "put 0 0 60 1x",
    "reserve ", "reservex", "reserve-job", "reserve-job x", "reserve-with-timeout",
    "reserve-with-timeout 0x", "reserve-with-timeout  0 ", "delete", "delete ", "delete x",
    "delete 0", "delete 18446744073709551615", "delete 18446744073709551616", "delete 0 ",
    "release 0 0", "release 0 0 0", "release 0 0 0 ", "release 0 -1 0", "bury 0", "bury 0 0",
    "bury 0 0 0", "touch", "touch 0", "touch x", "kick", "kick ", "kick x",
    "kick 18446744073709551616", "kick-job", "kick-job 0", "kick-job x", "peek", "peek 0",
    "peek x", "peek-ready ", "peek-readyx", "peek-x", "use", "use ", "use -a", "use %s ",
    "use  %s", "use a\x00b", "watch", "watch ", "watch -a", "ignore", "ignore -a", "ignore nobody",
    "list-tubesx", "list-tube", "list-tube-usedx", "stats ", "stats-job", "stats-job 0",
    "stats-tube", "stats-tube -", "stats-tube nobody", "pause-tube", "pause-tube %s",
    "pause-tube %s 1 ", "pause-tube %s x", "pause-tube nobody 1", "pause-tube  %s  0",
    "pause-tube%s 0", "qui", "list-tube-used\n", "nonsense\nuse x", "\x00",
)


def sequence(seed: int, length: int) -> list[dict]:
    """The sequence of a seed."""
    dice = random.Random(seed)
    start = [put(dice, conn) for conn in (0, 1, 0, 2)]
    return start + [action(dice) for _ in range(length)]


def action(dice: random.Random) -> dict:
    """One action on a random connection."""
    conn = dice.randrange(CONNECTIONS)
    makers = (
        (20, put), (16, reserve), (16, settle), (8, about_a_job), (6, peek), (6, kick), (5, tube),
        (4, watch), (3, listing), (3, pause), (5, line), (3, odd_put), (4, pipeline), (2, leave),
        (1.2, sleep),
    )
    maker = dice.choices([maker for _, maker in makers], [weight for weight, _ in makers])[0]
    return maker(dice, conn)


def put(dice: random.Random, conn: int) -> dict:
    """A good put."""
    return {"do": "put", "conn": conn, "pri": dice.choice(PRIORITIES), "delay": dice.choice(DELAYS),
            "ttr": dice.choice(TTRS), "body": dice.choice(BODIES), "cut": dice.random() < 0.1}


def odd_put(dice: random.Random, conn: int) -> dict:
    """A put whose body is too big, or ends where it should not, with a command behind it."""
    return {"do": "odd_put", "conn": conn,
            "what": dice.choice(("big", "bigger", "big with more", "no end", "short", "long"))}


def reserve(dice: random.Random, conn: int) -> dict:
    """A reserve: at once, for a second, or for as long as it takes."""
    return {"do": "reserve", "conn": conn, "timeout": dice.choice((0, 0, 0, 1, None))}


def settle(dice: random.Random, conn: int) -> dict:
    """Something that an owner does with a job, mostly with one of its own."""
    word = dice.choice(("delete", "delete", "release", "release", "bury", "bury", "touch"))
    return {"do": word, "conn": conn, "pick": dice.randrange(6), "own": dice.random() < 0.85,
            "pri": dice.choice(PRIORITIES), "delay": dice.choice(DELAYS)}


def about_a_job(dice: random.Random, conn: int) -> dict:
    """A command with any job's id."""
    word = dice.choice(("reserve-job", "reserve-job", "kick-job", "peek", "stats-job", "delete"))
    return {"do": word, "conn": conn, "pick": dice.randrange(12), "own": False}


def peek(dice: random.Random, conn: int) -> dict:
    """A peek at the used tube."""
    return {"do": "say", "conn": conn,
            "line": dice.choice(("peek-ready", "peek-delayed", "peek-buried"))}


def kick(dice: random.Random, conn: int) -> dict:
    """A kick."""
    return {"do": "say", "conn": conn, "line": f"kick {dice.choice(KICKS)}"}


def tube(dice: random.Random, conn: int) -> dict:
    """Use another tube."""
    return {"do": "say", "conn": conn, "line": "use %s", "tube": dice.choice(TUBES)}


def watch(dice: random.Random, conn: int) -> dict:
    """Watch or ignore one."""
    return {"do": "say", "conn": conn, "line": dice.choice(("watch %s", "watch %s", "ignore %s")),
            "tube": dice.choice(TUBES)}


def listing(dice: random.Random, conn: int) -> dict:
    """A list or the figures of a tube."""
    return {"do": "say", "conn": conn, "tube": dice.choice(TUBES),
            "line": dice.choice(("list-tube-used", "list-tubes-watched", "stats-tube %s"))}


def pause(dice: random.Random, conn: int) -> dict:
    """Pause a tube."""
    return {"do": "say", "conn": conn, "line": f"pause-tube %s {dice.choice(PAUSES)}",
            "tube": dice.choice(TUBES)}


def line(dice: random.Random, conn: int) -> dict:
    """A line that is wrong, or nearly; perhaps a long one."""
    if dice.random() < 0.15:
        # Not 225, 449 and so on: there the original swallows the next line (lines-odd.txt).
        return {"do": "say", "conn": conn, "line": "z" * (dice.choice((222, 224, 230, 500)) - 2)}
    return {"do": "say", "conn": conn, "line": dice.choice(LINES), "tube": dice.choice(TUBES)}


def pipeline(dice: random.Random, conn: int) -> dict:
    """Several commands in one piece."""
    makers = (put, put, peek, kick, tube, watch, line, settle, about_a_job)
    parts = [dice.choice(makers)(dice, conn) for _ in range(dice.randrange(2, 6))]
    if dice.random() < 0.5:
        parts.append({"do": "reserve", "conn": conn, "timeout": 0})
    return {"do": "pipeline", "conn": conn, "parts": parts}


def leave(dice: random.Random, conn: int) -> dict:
    """End a connection in one of several ways; it comes back."""
    return {"do": "leave", "conn": conn,
            "how": dice.choice(("quit", "close", "half", "reset", "within a body"))}


def sleep(dice: random.Random, conn: int) -> dict:
    """Let more than a second go by."""
    return {"do": "sleep", "conn": conn, "sleep_s": SLEEP_S}
