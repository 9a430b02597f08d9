//! The way of the bytes: from pipes to lines and links and back, and the ends of connections.

use crate::fact::{ConnId, Crash, Fact, Micros};
use crate::pipe::{Ending, Found, Pipe};

use super::clients::Client;
use super::{Event, World};

/// What the server reads at once.
const SERVER_READ_BYTES: usize = 128 * 1024;

/// One connection, whoever still knows of it.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) client: usize,
    pub(super) pipe: Pipe,
    /// The server's end is closed.
    pub(super) is_ended: bool,
    /// The server has asked it to end, and taken back what it had.
    pub(super) is_told_to_go: bool,
    /// The timer events that are planned for the two ends.
    pub(super) line_timer: Option<Micros>,
    pub(super) link_timer: Option<Micros>,
}

impl Conn {
    pub(super) fn new(client: usize, pipe: Pipe) -> Self {
        Self {
            client,
            pipe,
            is_ended: false,
            is_told_to_go: false,
            line_timer: None,
            link_timer: None,
        }
    }
}

impl World {
    pub(super) fn conn(&mut self, conn: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(conn as usize)
    }

    /// When something sent now arrives.
    pub(super) fn arrival(&mut self, conn: ConnId) -> Micros {
        let latency = self.conns.get(conn as usize).map_or(0, |conn| conn.pipe.latency);
        let slow = if self.now < self.weather.slow_link_until { 50 } else { 1 };
        self.now + 1 + latency.saturating_mul(slow) + self.dice.below(latency / 2 + 2)
    }

    /// A connection reaches the server.
    pub(super) fn arrive(&mut self, conn: ConnId) {
        let moment = self.moment();
        let client = self.conns.get(conn as usize).and_then(|conn| self.clients.get(conn.client));
        let Some(door) = client.map(Client::door) else { return };
        if self.server.accept(conn, door, moment) {
            self.totals.connections += 1;
            self.plan_line_timer(conn);
            self.serve(conn);
        } else {
            self.refuse(conn);
        }
    }

    /// Nobody is there.
    pub(super) fn refuse(&mut self, conn: ConnId) {
        let at = self.arrival(conn);
        if let Some(conn) = self.conn(conn) {
            conn.is_ended = true;
            conn.pipe.down.end(at, Ending::Reset);
            conn.pipe.up.lose();
        }
        self.at(at, Event::Down(conn));
    }

    /// Bytes reached the server: read once, parse, answer what needs no commit.
    pub(super) fn serve(&mut self, conn: ConnId) {
        let moment = self.moment();
        let (Some(node), Some(line)) = (&mut self.server.node, self.server.lines.get_mut(&conn))
        else {
            return;
        };
        let Some(there) = self.conns.get_mut(conn as usize) else { return };
        if line.is_over() || !there.pipe.up.is_ready(self.now) {
            return;
        }
        // The end of input is seen by a read, so it waits as bytes do.
        if !line.may_read(node, moment) {
            self.waiting.insert(conn);
            return;
        }
        let outcome = match there.pipe.up.read(self.now, SERVER_READ_BYTES) {
            Found::Bytes(bytes) => {
                self.trace.note_bytes(&bytes);
                line.take_input(node, moment, &bytes).map_err(|_| true)
            }
            Found::Nothing => Ok(()),
            Found::End(Ending::Closed) => line.end_input(node, moment).map_err(|_| true),
            Found::End(Ending::Reset) => Err(false),
        };
        let is_more = !line.is_over() && there.pipe.up.is_ready(self.now);
        if let Err(has_last_words) = outcome {
            self.close_line(conn, has_last_words);
            return;
        }
        if is_more {
            self.at(self.now + 1, Event::Up(conn));
        }
        self.pass(conn);
        self.flush_client(conn);
        let pause = 1 + self.dice.below(100);
        self.want_turn(pause);
    }

    /// Takes what the engine released for a connection and sends it.
    pub(super) fn pass(&mut self, conn: ConnId) {
        let arrival = self.arrival(conn);
        let moment = self.moment();
        let (Some(node), Some(line)) = (&mut self.server.node, self.server.lines.get_mut(&conn))
        else {
            return;
        };
        let Some(there) = self.conns.get_mut(conn as usize) else { return };
        let outcome = line.pass(node, &mut there.pipe.down, (moment, arrival));
        let (input, output) = line.held();
        let has_work = node.has_work();
        if input > 8 * 1024 || output > 64 * 1024 {
            self.facts.push(Fact::Holding { conn, input, output });
        }
        match outcome {
            Ok(Some(arrives)) => self.at(arrives, Event::Down(conn)),
            Ok(None) => {}
            Err(_) => {
                self.close_line(conn, true);
                return;
            }
        }
        if has_work {
            self.want_turn(5);
        }
        self.plan_line_timer(conn);
        if !self.server.lines.is_empty() {
            self.want_disk();
        }
    }

    /// The server's end closes.
    pub(super) fn close_line(&mut self, conn: ConnId, has_last_words: bool) {
        let arrival = self.arrival(conn);
        let moment = self.moment();
        let Some(mut line) = self.server.lines.remove(&conn) else { return };
        if let Some(node) = self.server.node.as_mut() {
            node.close_session(moment.wall, line.session);
        }
        self.facts.push(Fact::Ended(conn));
        let Some(there) = self.conn(conn) else { return };
        there.is_ended = true;
        if has_last_words {
            line.farewell(&mut there.pipe.down, arrival);
        }
        let ending = if has_last_words { Ending::Closed } else { Ending::Reset };
        let at = there.pipe.down.end(arrival, ending);
        there.pipe.up.lose();
        self.at(at, Event::Down(conn));
        self.want_turn(5);
    }

    pub(super) fn line_timer(&mut self, conn: ConnId) {
        let moment = self.moment();
        let Some(there) = self.conns.get_mut(conn as usize) else { return };
        if there.line_timer.is_none_or(|at| at > self.now) {
            return;
        }
        there.line_timer = None;
        let (Some(node), Some(line)) = (&mut self.server.node, self.server.lines.get_mut(&conn))
        else {
            return;
        };
        if line.on_timer(node, moment).is_err() {
            self.close_line(conn, true);
            return;
        }
        self.pass(conn);
    }

    fn plan_line_timer(&mut self, conn: ConnId) {
        let base = self.server.base;
        let deadline = self.server.lines.get(&conn).and_then(|line| line.deadline(base));
        let now = self.now;
        let Some(there) = self.conn(conn) else { return };
        let Some(at) = deadline.map(|at| at.max(now + 1)) else { return };
        if there.line_timer.is_none_or(|planned| planned > at) {
            there.line_timer = Some(at);
            self.at(at, Event::LineTimer(conn));
        }
    }

    /// All connections lose their server. `is_told`: the clients hear of it.
    pub(super) fn drop_lines(&mut self, how: Crash, is_told: bool) {
        self.facts.push(Fact::Crashed(how));
        let conns: Vec<ConnId> = self.server.lines.keys().copied().collect();
        self.server.lines.clear();
        for conn in conns {
            let at = self.arrival(conn);
            self.facts.push(Fact::Ended(conn));
            let Some(there) = self.conn(conn) else { continue };
            there.is_ended = true;
            there.pipe.up.lose();
            if is_told {
                let at = there.pipe.down.end(at, Ending::Reset);
                self.at(at, Event::Down(conn));
            }
        }
    }
}
