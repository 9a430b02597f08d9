"""Differences that are known: each has a name, a reason and a test for what it looks like.

What lives here: the list. A difference that nothing here names fails the run. AMQP-nnn are the
deviations of COMPAT.md; `limits` are what this comparison cannot see sharply.
"""

from __future__ import annotations

from harness.comparison import Difference, Known, name_among


def _verbs(found: Difference) -> tuple[list, list]:
    """The replies of both sides."""
    theirs, ours = found.parts.get("replies", ([], []))
    return theirs or [], ours or []


def _codes(found: Difference) -> tuple[int, int]:
    """The codes with which a channel or connection was closed; 0 for none."""
    def code(replies: list) -> int:
        closes = [one[3] for one in replies if len(one) > 3 and str(one[2]).endswith(".close")]
        return closes[0] if closes else 0
    theirs, ours = _verbs(found)
    return code(theirs), code(ours)


def _does(found: Difference, *names: str) -> bool:
    return found.action["do"] in names


KNOWN: tuple[Known, ...] = (
    Known("exchange type", "an unknown type closes the channel with 406, as since RabbitMQ 4, "
          "where 3.10 closes the connection with 503 (docs/protocols/conformance.md)",
          lambda it: _does(it, "exchange") and _codes(it) == (503, 406)),
    Known("AMQP-016", "of several faults in one method the door names the one that it sees "
          "without asking the engine: arguments and properties before names",
          lambda it: _does(it, "publish", "consume", "declare", "exchange", "bind")
          and _codes(it) in ((404, 406), (403, 406), (405, 406), (404, 403), (530, 406)) and _is_faulty(it)),
    Known("queue type", "a queue type that nobody knows is refused with 406, where RabbitMQ 3.10 "
          "ends the connection with 541",
          lambda it: _does(it, "declare") and _codes(it) == (541, 406)
          and "x-queue-type" in " ".join(it.ours_text)),
    Known("get with a single active consumer", "refused with 405, as since RabbitMQ 4 "
          "(docs/protocols/conformance.md)",
          lambda it: _does(it, "get") and _codes(it) == (0, 405)
          and "single active consumer" in " ".join(it.ours_text)),
    Known("AMQP-008", "an unknown delivery tag or exchange inside a transaction is told by the "
          "commit",
          lambda it: _does(it, "ack", "nack", "reject") and _codes(it) == (406, 0)
          and "unknown delivery tag" in " ".join(it.theirs_text)
          or _does(it, "publish") and _codes(it) == (404, 0)
          and "no exchange" in " ".join(it.theirs_text)
          or _does(it, "commit") and _codes(it)[0] == 0 and _codes(it)[1] in (404, 406)),
    Known("AMQP-017", "messages of a transaction are routed by the bindings at the commit, not at "
          "each publish",
          lambda it: _does(it, "commit") and set(it.parts) == {"queues"}),
    Known("AMQP-107", "x-overflow = drop-head, said or not said, is the same declaration",
          lambda it: _does(it, "declare") and _codes(it) == (406, 0)
          and any("x-overflow" in text and "drop-head" in text for text in it.theirs_text)),
    Known("AMQP-012", "x-queue-mode is neither checked nor obeyed",
          lambda it: _does(it, "declare") and _codes(it) == (406, 0)
          and any("x-queue-mode" in text for text in it.theirs_text)),
)


def _is_faulty(found: Difference) -> bool:
    """Whether the action itself, whatever the state, is not right."""
    text = " ".join(found.ours_text)
    return any(word in text for word in ("invalid arg", "invalid expiration", "user_id property",
                                         "unknown exchange type",
                                         "invalid message", "invalid type"))


def name_of(found: Difference) -> str | None:
    """The known difference that this is; `None`: nobody knows it."""
    return name_among(KNOWN, found)
