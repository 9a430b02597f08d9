"""Plays a sequence on one server and says after each action what could be seen.

What lives here: [`Side`], the connections of a sequence to one server, and the normal form of what
came: replies in order, deliveries by consumer, confirms as sets, counts of all queues. What does
not: comparing two sides (harness/comparison.py), which calls this.

After an action the channel is asked something harmless, so that the action has been dealt with;
then the queues are asked for their counts. What servers do in the background may take longer:
the comparison looks again before it calls a difference one.
"""

from __future__ import annotations

import re
import time

import encode
from peer import CHANNEL_CLOSE, CHANNEL_CLOSE_OK, CONNECTION_CLOSE, DELIVER, GET_OK, RETURN
from peer import Event, Peer, Reader, frames, properties

HELPER = 9
CHANNELS = (1, 2, HELPER)
PROBE_OK = (40, 11)
# Asks for an exchange that is always there.
PROBE = frames.exchange_declare("amq.direct", bits=1)
NAMED_MADE = ("amq.gen-", "amq.ctag-")
LAST_DEATH = "x-last-death-"
MADE = re.compile(r"amq\.(gen|ctag)-[\w-]+")


def on_channel(data: bytes, channel: int) -> bytes:
    """A method frame for channel 1, sent on another."""
    return data[:1] + channel.to_bytes(2, "big") + data[3:]


class Channel:
    """What one channel has going on."""

    def __init__(self) -> None:
        """A fresh channel."""
        self.out: list[tuple[str, int]] = []
        self.published = 0
        self.is_confirming = False
        self.acked: set[int] = set()
        self.nacked: set[int] = set()
        self.no_ack: set[str] = set()
        self.asked: list[bool] = []


class Side:
    """One server, two connections."""

    def __init__(self, port: int, prefix: str) -> None:
        """Connect; nothing is declared."""
        self.port = port
        self.names = encode.Names(prefix)
        self.peers: list[Peer] = []
        self.channels: dict[tuple[int, int], Channel] = {}
        self.alive: set[str] = set()
        self.probes: list[dict[int, int]] = []
        self.seen: dict = {}
        self.texts: list[str] = []
        self.bodies = 0
        for number in range(2):
            self.peers.append(Peer(port))
            self.probes.append({})
            self._open_channels(number)

    def _open_channels(self, number: int) -> None:
        for channel in CHANNELS:
            self._open(number, channel)

    def _open(self, number: int, channel: int) -> None:
        peer = self.peers[number]
        self.channels[number, channel] = Channel()
        self.probes[number][channel] = 0
        peer.take(channel)
        peer.send(on_channel(frames.CHANNEL_OPEN, channel))
        if peer.await_any(channel, ((20, 11),)) is None:
            self._reconnect(number, None)

    def _reconnect(self, number: int, close: Event | None) -> None:
        """The server ended a connection: note how, and come back."""
        peer = self.peers[number]
        for channel in CHANNELS:
            self._digest(number, channel)
        if close is not None:
            self._note("replies", self._close_words(number, 0, close))
            peer.send(frames.method(0, 10, 51))
        else:
            self._note("replies", (number, 0, "the connection is gone"))
        peer.close()
        self.peers[number] = Peer(self.port)
        self._open_channels(number)

    def _note(self, kind: str, what: tuple) -> None:
        self.seen.setdefault(kind, []).append(what)

    def _close_words(self, number: int, channel: int, event: Event) -> tuple:
        reader = Reader(event.arguments)
        code, text = reader.take("H"), reader.short().decode("utf-8", "replace")
        self.texts.append(MADE.sub("<made>", self.names.off(text)))
        verb = "connection.close" if channel == 0 else "channel.close"
        return number, channel, verb, code, reader.take("H"), reader.take("H")

    def begin(self) -> None:
        """Forget what the last action led to."""
        self.seen, self.texts = {}, []

    def act(self, action: dict) -> None:
        """Send one action and wait until the server has dealt with it."""
        number, channel = action["conn"], action["ch"]
        peer, state = self.peers[number], self.channels[number, action["ch"]]
        do = action["do"]
        if do == "wait":
            time.sleep(0.06)
        elif do == "leave":
            self._leave(number)
            return
        elif do == "reopen":
            peer.send(frames.method(channel, 20, 40, b"\x00\x00" + frames.short("") + b"\0" * 4))
            if peer.await_any(channel, (CHANNEL_CLOSE_OK,)) is None:
                self._reconnect(number, None)
                return
            self._digest(number, channel)
            self._open(number, channel)
            return
        elif do in ("ack", "nack", "reject"):
            self._settle(action, peer, state)
        else:
            self._send(action, peer, state)
        if do == "commit":
            # RabbitMQ closes the connection of a client that does not wait for commit-ok.
            self._await_commit(number, channel)
            return
        self._barrier(number, channel)

    def _send(self, action: dict, peer: Peer, state: Channel) -> None:
        do, body = action["do"], b""
        if do == "publish":
            self.bodies += 1
            body = f"{self.bodies}:".encode()[:action["size"]].ljust(action["size"], b".")
            state.published += state.is_confirming
        elif do == "confirm":
            state.is_confirming = True
        elif do == "consume" and action["no_ack"]:
            state.no_ack.add(action["tag"])
        elif do == "get":
            state.asked.append(action["no_ack"])
        elif do == "declare" and action["queue"] and not action["passive"]:
            self.alive.add(action["queue"])
        elif do == "exchange":
            self.probes[action["conn"]][action["ch"]] = int(not action["nowait"])
        peer.send(encode.method(action, self.names, body))
        if do in ("recover", "recover_async"):
            # Everything that is out goes back.
            state.out.clear()

    def _settle(self, action: dict, peer: Peer, state: Channel) -> None:
        """Settle what the action picks: the same delivery on both sides, whatever its tag."""
        if action["wrong"]:
            peer.send(encode.settle(action, 777, False))
            return
        if not state.out:
            return
        ordered = sorted(range(len(state.out)), key=lambda at: (state.out[at][0], at))
        at = ordered[action["pick"] % len(ordered)]
        source, tag = state.out[at]
        # "Up to this tag" means the same on both sides only when all came from one source.
        is_one = len({source for source, _ in state.out}) == 1
        multiple = action["multiple"] and is_one and action["do"] != "reject"
        gone = [entry for entry in state.out if entry[1] == tag or multiple and entry[1] <= tag]
        for entry in gone:
            state.out.remove(entry)
        peer.send(encode.settle(action, tag, multiple))

    def _leave(self, number: int) -> None:
        """Say goodbye, and come back."""
        peer = self.peers[number]
        peer.send(frames.method(0, 10, 50, b"\x00\xc8" + frames.short("") + b"\0" * 4))
        peer.await_any(0, ((10, 51),))
        for channel in CHANNELS:
            self._digest(number, channel)
        peer.close()
        self.peers[number] = Peer(self.port)
        self._open_channels(number)

    def _barrier(self, number: int, channel: int) -> None:
        """Everything sent on the channel has been dealt with."""
        peer = self.peers[number]
        peer.send(on_channel(PROBE, channel))
        # An exchange.declare of the sequence has the same answer: wait for the probe's own.
        while True:
            event = peer.await_any(channel, (PROBE_OK, CHANNEL_CLOSE))
            if event is None:
                close = peer.await_any(0, (CONNECTION_CLOSE,)) if peer.events.get(0) else None
                self._reconnect(number, close)
                return
            if event.verb == CONNECTION_CLOSE:
                self._reconnect(number, event)
                return
            if event.verb == CHANNEL_CLOSE:
                self._on_channel_close(number, channel, event)
                return
            if self._expected_first(number, channel):
                self._note("replies", (number, channel, "exchange.declare-ok"))
                continue
            self._digest(number, channel)
            return

    def _await_commit(self, number: int, channel: int) -> None:
        """Like a barrier; the answer is the action's own."""
        peer = self.peers[number]
        event = peer.await_any(channel, ((90, 21), CHANNEL_CLOSE))
        if event is None or event.verb == CONNECTION_CLOSE:
            self._reconnect(number, event)
        elif event.verb == CHANNEL_CLOSE:
            self._on_channel_close(number, channel, event)
        else:
            self._note("replies", (number, channel, event.verb))
            self._barrier(number, channel)

    def _expected_first(self, number: int, channel: int) -> bool:
        """Whether the declare-ok that just came belongs to an action of the sequence."""
        left = self.probes[number].get(channel, 0)
        self.probes[number][channel] = max(0, left - 1)
        return left > 0

    def _on_channel_close(self, number: int, channel: int, event: Event) -> None:
        self._digest(number, channel)
        self._note("replies", self._close_words(number, channel, event))
        self.peers[number].send(frames.method(channel, 20, 41))
        self._open(number, channel)

    def _digest(self, number: int, channel: int) -> None:
        """Put what came on a channel into its normal form."""
        state = self.channels[number, channel]
        for event in self.peers[number].take(channel):
            reader = Reader(event.arguments)
            if event.verb == DELIVER:
                self._on_deliver(number, channel, state, event)
            elif event.verb == GET_OK:
                tag, is_redelivered = reader.take("Q"), bool(reader.take("B"))
                where = (self._text(reader.short()), self._text(reader.short()))
                if not state.asked.pop(0):
                    state.out.append(("get", tag))
                left = reader.take("I")
                self._note("replies", (number, channel, "get-ok", is_redelivered, *where, left,
                                       *self._content(event)))
            elif event.verb == RETURN:
                code, _ = reader.take("H"), reader.short()
                where = (self._text(reader.short()), self._text(reader.short()))
                self._note("returns", (number, channel, code, *where, *self._content(event)))
            elif event.verb in ((60, 80), (60, 120)):
                self._on_confirm(state, event)
            elif event.verb != CHANNEL_CLOSE:
                self._on_reply(number, channel, state, event)

    def _on_deliver(self, number: int, channel: int, state: Channel, event: Event) -> None:
        reader = Reader(event.arguments)
        raw = reader.short().decode()
        self._learn(raw)
        consumer, tag = self.names.off(raw), reader.take("Q")
        is_redelivered = bool(reader.take("B"))
        where = (self._text(reader.short()), self._text(reader.short()))
        if raw not in state.no_ack:
            state.out.append((consumer, tag))
        self._note(f"delivered {number}.{channel} {consumer}",
                   (is_redelivered, *where, *self._content(event)))

    def _on_confirm(self, state: Channel, event: Event) -> None:
        reader = Reader(event.arguments)
        tag, is_multiple = reader.take("Q"), reader.take("B") & 1
        settled = state.acked | state.nacked
        first = 1 if is_multiple else tag
        into = state.acked if event.verb == (60, 80) else state.nacked
        into.update(number for number in range(first, tag + 1) if number not in settled)

    def _on_reply(self, number: int, channel: int, state: Channel, event: Event) -> None:
        reader, words = Reader(event.arguments), []
        if event.verb == (50, 11):
            name = reader.short().decode()
            self._learn(name)
            if name.startswith("amq.gen-"):
                self.alive.add(name)
            words = [self.names.off(name), reader.take("I"), reader.take("I")]
        elif event.verb in ((60, 21), (60, 31), (60, 30)):
            raw = reader.short().decode()
            self._learn(raw)
            if "" in state.no_ack and raw.startswith("amq.ctag-"):
                state.no_ack.discard("")
                state.no_ack.add(raw)
            words = [self.names.off(raw)]
        elif event.verb in ((50, 31), (50, 41)):
            words = [reader.take("I")]
        elif event.verb == (60, 72) and state.asked:
            state.asked.pop(0)
        self._note("replies", (number, channel, event.verb, *words))

    def _learn(self, name: str) -> None:
        if name.startswith(NAMED_MADE):
            self.names.learn(name)

    def _text(self, data: bytes) -> str:
        text = data.decode("latin-1")
        self._learn(text)
        return self.names.off(text)

    def _content(self, event: Event) -> tuple[str, str]:
        found = properties(event.properties)
        if isinstance(found.get("headers"), dict):
            # What died last is told since RabbitMQ 3.13; 3.10 tells what died first.
            kept = (one for one in found["headers"].items() if not one[0].startswith(LAST_DEATH))
            found["headers"] = dict(sorted(kept))
            if not found["headers"]:
                del found["headers"]
        return self.names.off(repr(found)), event.body.decode("latin-1")

    def look(self, queues: bool = True) -> dict:
        """What could be seen since `begin`, with the state of all queues now."""
        for number, peer in enumerate(self.peers):
            while peer.pump(0.0):
                pass
            for event in peer.take(0):
                if event.verb == CONNECTION_CLOSE:
                    self._reconnect(number, event)
                    break
            for channel in CHANNELS[:2]:
                closes = [e for e in peer.events.get(channel, []) if e.verb == CHANNEL_CLOSE]
                if closes:
                    self._on_channel_close(number, channel, closes[0])
                self._digest(number, channel)
        found = dict(self.seen)
        if queues:
            found["queues"] = {self.names.off(name): self._probe(name)
                               for name in sorted(self.alive)}
        for where, state in self.channels.items():
            if state.is_confirming:
                counts = (state.published, sorted(state.acked), sorted(state.nacked))
                found[f"confirms {where}"] = counts
            if where[1] != HELPER:
                sources = sorted(source for source, _ in state.out)
                found[f"out {where}"] = sources
        found["alive"] = sorted(self.names.off(name) for name in self.alive)
        return found

    def _probe(self, name: str) -> object:
        """Ready messages and consumers of a queue, as its owner or anybody sees it."""
        for number, peer in enumerate(self.peers):
            full = self.names.on(name)
            peer.send(frames.declare(full, bits=1, channel=HELPER))
            event = peer.await_any(HELPER, ((50, 11), CHANNEL_CLOSE))
            if event is None or event.verb == CONNECTION_CLOSE:
                self._reconnect(number, event)
                return "the connection is gone"
            if event.verb == (50, 11):
                reader = Reader(event.arguments)
                reader.short()
                return reader.take("I"), reader.take("I")
            code = Reader(event.arguments).take("H")
            peer.send(frames.method(HELPER, 20, 41))
            self._open(number, HELPER)
            if code == 404:
                self.alive.discard(name)
                return "gone"
        return "locked"

    def end(self) -> None:
        """Drop the connections and delete what the sequence made."""
        for peer in self.peers:
            peer.close()
        last = Peer(self.port)
        deletes = [(50, 40, self.names.on(name)) for name in sorted(self.alive)]
        deletes += [(40, 20, self.names.on(name)) for name in ("e0", "e1", "e2")]
        for class_id, method_id, name in deletes:
            last.send(frames.method(1, 20, 10, frames.short("")))
            last.await_any(1, ((20, 11),))
            arguments = b"\x00\x00" + frames.short(name) + b"\x00"
            last.send(frames.method(1, class_id, method_id, arguments))
            event = last.await_any(1, ((class_id, method_id + 1), CHANNEL_CLOSE))
            if event is not None and event.verb == CHANNEL_CLOSE:
                last.send(frames.method(1, 20, 41))
            else:
                last.send(frames.method(1, 20, 40, b"\x00\x00" + frames.short("") + b"\0" * 4))
                last.await_any(1, (CHANNEL_CLOSE_OK,))
        last.close()
