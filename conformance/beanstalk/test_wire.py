"""Raw connections: what a client library hides: line ends, lengths, order, half-closed sockets.

What lives here: forms and bytes, and what they are answered. What does not: inputs made to harm
(test_hostile_beanstalk.py).
"""

from __future__ import annotations

import pytest

import wire

USED = b"USING default\r\n"

# A command line and its answer; nothing of it has an effect.
FORMS = {
    b"\r\n": b"UNKNOWN_COMMAND", b" stats": b"UNKNOWN_COMMAND", b"STATS": b"UNKNOWN_COMMAND",
    b"put": b"UNKNOWN_COMMAND", b"put ": b"BAD_FORMAT", b"put 0 0 60": b"BAD_FORMAT",
    b"put 0 0 60 1 ": b"BAD_FORMAT", b"put 0 0 60 1 1": b"BAD_FORMAT", b"put a": b"BAD_FORMAT",
    b"put 0 0 60 1x": b"BAD_FORMAT", b"put -1 0 60 1": b"BAD_FORMAT",
    b"put 0 0\t60 1": b"BAD_FORMAT", b"put 1e3 0 60 1": b"BAD_FORMAT",
    b"put 4294967296 0 60 1": b"BAD_FORMAT", b"put 0 4294967296 60 1": b"BAD_FORMAT",
    b"put 0 0 4294967296 1": b"BAD_FORMAT", b"put 0 0 60 4294967296": b"BAD_FORMAT",
    b"reserve ": b"BAD_FORMAT", b"reserve 1": b"BAD_FORMAT", b"reserved": b"BAD_FORMAT",
    b"reserv": b"UNKNOWN_COMMAND", b"reserve-with-timeout": b"BAD_FORMAT",
    b"reserve-with-timeout 0x": b"TIMED_OUT", b"reserve-with-timeout  0 ": b"TIMED_OUT",
    b"reserve-job": b"BAD_FORMAT", b"reserve-job x": b"BAD_FORMAT",
    b"delete": b"UNKNOWN_COMMAND", b"delete ": b"BAD_FORMAT", b"delete x": b"BAD_FORMAT",
    b"delete 0 ": b"BAD_FORMAT", b"delete 0x": b"BAD_FORMAT", b"delete -1": b"BAD_FORMAT",
    b"delete  0": b"NOT_FOUND", b"delete 00": b"NOT_FOUND",
    b"delete 18446744073709551615": b"NOT_FOUND", b"delete 18446744073709551616": b"BAD_FORMAT",
    b"release 0 0": b"BAD_FORMAT", b"release 0 0 0 ": b"BAD_FORMAT",
    b"release 0 4294967296 0": b"BAD_FORMAT", b"release 0 0 4294967296": b"BAD_FORMAT",
    b"release 0 0 0": b"NOT_FOUND", b"bury 0": b"BAD_FORMAT", b"bury 0 0 0": b"BAD_FORMAT",
    b"bury 0 4294967296": b"BAD_FORMAT", b"bury  0  0": b"NOT_FOUND",
    b"touch x": b"BAD_FORMAT", b"touch 0": b"NOT_FOUND", b"touch": b"UNKNOWN_COMMAND",
    b"kick": b"UNKNOWN_COMMAND", b"kick ": b"BAD_FORMAT", b"kick x": b"BAD_FORMAT",
    b"kick 1x": b"KICKED 0", b"kick +1 ": b"KICKED 0", b"kick -1": b"KICKED 0",
    b"kick 4294967296": b"KICKED 0", b"kick 18446744073709551616": b"BAD_FORMAT",
    b"kick-job": b"UNKNOWN_COMMAND", b"kick-job x": b"BAD_FORMAT", b"kick-job 0": b"NOT_FOUND",
    b"peek": b"UNKNOWN_COMMAND", b"peek ": b"BAD_FORMAT", b"peek -1": b"BAD_FORMAT",
    b"peek 0": b"NOT_FOUND", b"peek-ready ": b"BAD_FORMAT", b"peek-readyx": b"BAD_FORMAT",
    b"peek-nothing": b"UNKNOWN_COMMAND", b"peek-buried 1": b"BAD_FORMAT",
    b"use": b"UNKNOWN_COMMAND", b"use ": b"BAD_FORMAT", b"use  a": b"BAD_FORMAT",
    b"use a ": b"BAD_FORMAT", b"watch": b"UNKNOWN_COMMAND", b"watch -": b"BAD_FORMAT",
    b"ignore": b"UNKNOWN_COMMAND", b"ignore default": b"NOT_IGNORED",
    b"list-tubes ": b"BAD_FORMAT", b"list-tubesx": b"BAD_FORMAT",
    b"list-tube-usedx": b"BAD_FORMAT", b"list-tubes-watchedx": b"BAD_FORMAT",
    b"list-tube": b"UNKNOWN_COMMAND", b"stats ": b"BAD_FORMAT", b"statsx": b"BAD_FORMAT",
    b"stat": b"UNKNOWN_COMMAND", b"stats-job": b"BAD_FORMAT", b"stats-job x": b"BAD_FORMAT",
    b"stats-job 0": b"NOT_FOUND", b"stats-tube": b"BAD_FORMAT", b"stats-tube -": b"BAD_FORMAT",
    b"pause-tube": b"BAD_FORMAT", b"pause-tube x": b"BAD_FORMAT",
    b"pause-tube conf-nobody 1 ": b"BAD_FORMAT", b"pause-tube  conf-nobody  1": b"NOT_FOUND",
    b"pause-tubeconf-nobody 1": b"NOT_FOUND", b"pause-tube conf-nobody 4294967296": b"BAD_FORMAT",
    b"pause-tube -x 1": b"BAD_FORMAT", b"qui": b"UNKNOWN_COMMAND",
}


@pytest.fixture
def one(raw):
    """One raw connection, fresh."""
    return raw()


@pytest.mark.parametrize("line", FORMS, ids=lambda line: line.decode("latin-1").strip() or "empty")
def test_forms(raw, name, line):
    one = raw()
    if not line.startswith(b"ignore"):
        one.ask(b"watch %b" % name("own").encode())
        one.ask(b"ignore default")
    assert one.ask(line) == FORMS[line] + b"\r\n"
    assert one.ask(b"list-tube-used") == USED, "the connection goes on"


def test_commands_come_in_any_pieces(one, name):
    data = b"use %b\r\nput 1 0 60 3\r\na\r\n\r\nlist-tube-used\r\n" % name("t").encode()
    for byte in data:
        one.send(bytes([byte]))
    answers = one.answers(3)
    assert answers[0] == answers[2] == b"USING %b\r\n" % name("t").encode()
    assert answers[1].startswith(b"INSERTED ")


def test_pipelined_commands_are_answered_in_order(one, name):
    tube = name("t").encode()
    one.send(b"use %b\r\nput 1 0 60 1\r\na\r\nput 0 0 60 1\r\nb\r\nwatch %b\r\nignore default\r\n"
             b"reserve\r\nreserve\r\nreserve-with-timeout 0\r\nlist-tube-used\r\nnonsense\r\n"
             % (tube, tube))
    answers = one.answers(10)
    words = [answer.split()[0].decode() for answer in answers]
    assert words == ["USING", "INSERTED", "INSERTED", "WATCHING", "WATCHING", "RESERVED",
                     "RESERVED", "TIMED_OUT", "USING", "UNKNOWN_COMMAND"]
    assert [wire.body_of(answer) for answer in answers[5:7]] == [b"b", b"a"]


def test_a_waiting_reserve_holds_back_what_comes_after_it(raw, name):
    one, other, tube = raw(), raw(), name("t").encode()
    one.ask(b"watch %b" % tube)
    one.ask(b"ignore default")
    one.send(b"reserve\r\nlist-tube-used\r\nuse %b\r\n" % tube)
    assert one.says_nothing()
    other.ask(b"use %b" % tube)
    number = other.put(b"x")
    assert one.answers(3) == [b"RESERVED %d 1\r\nx\r\n" % number, USED, b"USING %b\r\n" % tube]


def test_a_thousand_commands_in_one_piece(one):
    one.send(b"list-tube-used\r\n" * 1000)
    assert one.answers(1000) == [USED] * 1000


@pytest.mark.parametrize("length", [223, 224])
def test_the_longest_line(one, length):
    line = b"x" * (length - 2) + b"\r\n"
    one.send(line + b"list-tube-used\r\n")
    assert one.answers(2) == [b"UNKNOWN_COMMAND\r\n", USED]


@pytest.mark.parametrize("length", [226, 300, 448, 1000, 100_000])
def test_a_longer_line_is_skipped_to_its_end(one, length):
    one.send(b"x" * (length - 2))
    assert one.says_nothing()
    one.send(b"\r\nlist-tube-used\r\n")
    assert one.answers(2) == [b"BAD_FORMAT\r\n", USED]


@pytest.mark.potager_only("of 225 bytes the original throws the CR away, and with it the next line")
def test_a_line_of_225_bytes(one):
    one.send(b"x" * 223 + b"\r\nlist-tube-used\r\n")
    assert one.answers(2) == [b"BAD_FORMAT\r\n", USED]


@pytest.mark.potager_only("a CR without LF hides the end of the line from the original")
def test_a_bare_cr_is_part_of_the_line(one):
    one.send(b"use a\rb\r\nlist-tube-used\r\n")
    assert one.answers(2) == [b"BAD_FORMAT\r\n", USED]


def test_a_bare_lf_is_part_of_the_line(one):
    one.send(b"list-tube-used\n")
    assert one.says_nothing()
    one.send(b"list-tube-used\r\nlist-tube-used\r\n")
    assert one.answers(2) == [b"BAD_FORMAT\r\n", USED]


def test_nul_is_not_well_formed(one):
    for line in (b"\x00", b"list-tube-used\x00", b"use a\x00b", b"\x00list-tube-used"):
        assert one.ask(line) == b"BAD_FORMAT\r\n"
    assert one.ask(b"list-tube-used") == USED


def test_a_refused_puts_body_is_taken_as_commands(one):
    one.send(b"put 0 0 60 x\r\nlist-tube-used\r\n")
    assert one.answers(2) == [b"BAD_FORMAT\r\n", USED]


def test_a_body_that_is_too_big_is_thrown_away(one, raw):
    number = raw().put(b"victim", delay=1000)
    for body in (b"delete %d\r\n" % number, b"x" * 70_000):
        body = body + b"y" * (65536 - len(body))
        one.send(b"put 0 0 60 %d\r\n%b" % (len(body), body))
        assert one.says_nothing(), "no answer before the whole body has come"
        one.send(b"\r\nlist-tube-used\r\n")
        assert one.answers(2) == [b"JOB_TOO_BIG\r\n", USED]
    assert one.ask(b"delete %d" % number) == b"DELETED\r\n"


def test_what_follows_a_thrown_away_body_does_not_matter(one):
    one.send(b"put 0 0 60 65536 garbage\r\n" + b"x" * 65538 + b"list-tube-used\r\n")
    assert one.answers(2) == [b"JOB_TOO_BIG\r\n", USED]


def test_a_body_must_end_with_its_line(one, name):
    one.ask(b"use %b" % name("t").encode())
    one.send(b"put 0 0 60 2\r\nhello\r\npeek-ready\r\n")
    assert one.answers(3) == [b"EXPECTED_CRLF\r\n", b"UNKNOWN_COMMAND\r\n", b"NOT_FOUND\r\n"]
    one.send(b"put 0 0 60 5\r\nhelloXYpeek-ready\r\n")
    assert one.answers(2) == [b"EXPECTED_CRLF\r\n", b"NOT_FOUND\r\n"]


def test_half_close_answers_everything_first(one, name):
    one.send(b"use %b\r\nput 0 0 60 1\r\nx\r\npeek-ready\r\nlist-tube-used\r\n"
             % name("t").encode())
    one.end_sending()
    assert [answer.split()[0] for answer in one.answers(4)] == [
        b"USING", b"INSERTED", b"FOUND", b"USING"]
    assert one.closes_within(5)


@pytest.mark.parametrize("command", [b"reserve", b"reserve-with-timeout 1000"])
def test_half_close_ends_waiting(raw, name, command):
    one = raw()
    one.ask(b"watch %b" % name("t").encode())
    one.ask(b"ignore default")
    one.send(command + b"\r\nlist-tube-used\r\n")
    assert one.says_nothing()
    one.end_sending()
    assert one.answers(2) == [b"TIMED_OUT\r\n", USED]
    assert one.closes_within(5)


def test_half_close_returns_what_was_reserved(raw, name):
    one, other, tube = raw(), raw(), name("t").encode()
    for raw_one in (one, other):
        raw_one.ask(b"use %b" % tube)
        raw_one.ask(b"watch %b" % tube)
        raw_one.ask(b"ignore default")
    number = one.put(b"x")
    one.send(b"reserve\r\n")
    one.end_sending()
    assert one.answer().startswith(b"RESERVED ")
    assert other.ask(b"reserve-with-timeout 5") == b"RESERVED %d 1\r\nx\r\n" % number


@pytest.mark.parametrize("said", [b"quit\r\n", b"quit now\r\n", b"quitting\r\n"])
def test_quit(one, said):
    one.send(b"list-tube-used\r\n")
    assert one.answer() == USED
    one.send(said)
    assert one.closes_within(5)


def test_nothing_after_quit_is_done(raw, name):
    one, tube = raw(), name("t").encode()
    one.send(b"use %b\r\nquit\r\nput 0 0 60 1\r\nx\r\n" % tube)
    assert one.closes_within(5)
    assert raw().ask(b"stats-tube %b" % tube) == b"NOT_FOUND\r\n"


def test_an_unfinished_body_is_no_job(raw, name):
    one, other, tube = raw(), raw(), name("t").encode()
    other.ask(b"use %b" % tube)
    one.send(b"use %b\r\nput 0 0 60 10\r\nabc" % tube)
    one.answer()
    assert other.ask(b"peek-ready") == b"NOT_FOUND\r\n"
    one.close()
    assert other.ask(b"peek-ready") == b"NOT_FOUND\r\n"


@pytest.mark.potager_only("the original shows a job before its body has come, with bytes of its memory")
def test_a_job_is_not_there_before_its_body(raw):
    one, other = raw(), raw()
    before = other.put(b"x", delay=1000)
    one.send(b"put 0 0 60 10\r\nabc")
    assert one.says_nothing()
    for number in range(before + 1, before + 4):
        for word in (b"peek", b"stats-job", b"reserve-job", b"delete", b"kick-job"):
            assert other.ask(b"%b %d" % (word, number)) == b"NOT_FOUND\r\n"
