//! Clients: connecting, reading, writing, giving roles their turns, coming back.
//!
//! Not here: what they want (`roles`), what every client does (`link`). Called by `world`.

use crate::dice::Dice;
use crate::fact::{ConnId, Fact, Micros};
use crate::io::{Io, Stage};
use crate::link::Over;
use crate::pipe::{Ending, Found, Pipe};
use crate::plan::SECOND;
use crate::roles::Role;
use crate::speech::{Door, Speech};

use super::traffic::Conn;
use super::{Event, World};

/// What a client reads at once.
const CLIENT_READ_BYTES: usize = 16 * 1024;

/// One client with its role.
pub(super) struct Client {
    role: Box<dyn Role>,
    dice: Dice,
    heartbeat: Micros,
    link: Option<Speech>,
    pub(super) conn: Option<ConnId>,
    /// Its next turn.
    turn_at: Option<Micros>,
    /// It does not read before.
    pub(super) slow_until: Micros,
    /// It has nothing more to do in this run.
    pub(super) is_done: bool,
    /// A connection attempt is planned.
    is_connecting: bool,
}

impl Client {
    pub(super) fn new(role: Box<dyn Role>, dice: Dice, heartbeat: Micros) -> Self {
        Self {
            role,
            dice,
            heartbeat,
            link: None,
            conn: None,
            turn_at: None,
            slow_until: 0,
            is_done: false,
            is_connecting: false,
        }
    }

    pub(super) fn begins(&self) -> Stage {
        self.role.begins()
    }

    pub(super) fn door(&self) -> Door {
        self.role.door()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.conn.is_some()
    }
}

impl World {
    /// Connects a client whose stage has come.
    pub(super) fn begin_client(&mut self, index: usize) {
        let pause = self.dice.below(SECOND / 10);
        let Some(client) = self.clients.get_mut(index) else { return };
        let is_wanted = client.begins() == self.stage
            || (client.begins() == Stage::Busy && self.stage == Stage::Calm);
        if is_wanted && !client.is_done && client.conn.is_none() && !client.is_connecting {
            client.is_connecting = true;
            self.at(self.now + pause, Event::Connect(index));
        }
    }

    pub(super) fn connect(&mut self, index: usize) {
        let latency = 1 + self.dice.below(self.weather.latency * 2);
        let conn = ConnId::try_from(self.conns.len()).unwrap_or(ConnId::MAX);
        let Some(client) = self.clients.get_mut(index) else { return };
        client.is_connecting = false;
        let is_over = self.stage > Stage::Calm && client.begins() != Stage::Gleaning;
        if client.conn.is_some() || client.is_done || is_over {
            return;
        }
        client.conn = Some(conn);
        client.link = Some(Speech::new(client.role.door(), self.now, client.heartbeat));
        self.conns.push(Conn::new(index, Pipe::new(self.weather.window, latency)));
        let at = self.arrival(conn);
        self.at(at, Event::Arrive(conn));
        self.with_role(index, |link, role, io| {
            link.greet(role, io);
            Ok(())
        });
    }

    /// Bytes, or an end, reached a client.
    pub(super) fn receive(&mut self, conn: ConnId) {
        let now = self.now;
        let Some(there) = self.conns.get_mut(conn as usize) else { return };
        let index = there.client;
        let Some(client) = self.clients.get_mut(index).filter(|one| one.conn == Some(conn)) else {
            return;
        };
        if now < client.slow_until {
            let at = client.slow_until;
            self.at(at, Event::Down(conn));
            return;
        }
        let found = there.pipe.down.read(now, CLIENT_READ_BYTES);
        let is_more = there.pipe.down.is_ready(now);
        match found {
            Found::Bytes(bytes) => {
                self.trace.note_bytes(&bytes);
                self.with_role(index, |link, role, io| link.on_bytes(&bytes, role, io));
                self.at(now + 1, Event::Room(conn));
            }
            Found::Nothing => return,
            Found::End(_) => {
                let over = client.link.as_ref().map_or(Over::Told, Speech::on_end);
                self.over(index, over);
                return;
            }
        }
        if is_more {
            self.at(now + 1, Event::Down(conn));
        }
    }

    /// A role's own turn.
    pub(super) fn role_turn(&mut self, index: usize) {
        let Some(client) = self.clients.get_mut(index) else { return };
        if client.turn_at != Some(self.now) {
            return;
        }
        client.turn_at = None;
        if client.link.as_ref().is_some_and(Speech::is_open) {
            self.with_role(index, |_, role, io| {
                role.on_turn(io);
                Ok(())
            });
        }
    }

    /// Gives every connected role a turn soon: the stage has changed.
    pub(super) fn stir(&mut self) {
        for index in 0..self.clients.len() {
            let pause = 1 + self.dice.below(10_000);
            self.plan_turn(index, self.now + pause);
        }
    }

    fn plan_turn(&mut self, index: usize, at: Micros) {
        let Some(client) = self.clients.get_mut(index) else { return };
        if client.turn_at.is_none_or(|planned| planned > at || planned < self.now) {
            client.turn_at = Some(at);
            self.at(at, Event::Role(index));
        }
    }

    /// Lets `act` work with a client's link and role, then carries out what they wanted.
    fn with_role(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Speech, &mut dyn Role, &mut Io<'_>) -> Result<(), Over>,
    ) {
        let shown_ms = self.clock.show(self.now).0;
        let (log_ms, is_smooth) = (self.clock.latest(), self.weather.is_smooth(self.now));
        let Some(client) = self.clients.get_mut(index) else { return };
        let (Some(conn), Some(link)) = (client.conn, client.link.as_mut()) else { return };
        let there = self.conns.get(conn as usize);
        let is_ended = there.is_none_or(|conn| conn.is_ended || conn.is_told_to_go);
        let is_stale = is_ended || link.is_leaving();
        let (mut wake_at, mut wants_close) = (None, false);
        let (mut out, mut asks) = (bytes::BytesMut::new(), Vec::new());
        let mut io = Io {
            now: self.now,
            log_ms,
            shown_ms,
            is_smooth,
            stage: self.stage,
            conn,
            is_stale,
            dice: &mut client.dice,
            out: &mut out,
            asks: &mut asks,
            facts: &mut self.facts,
            garden: &self.garden,
            book: &mut self.book,
            wake_at: &mut wake_at,
            wants_close: &mut wants_close,
            is_done: &mut client.is_done,
        };
        let outcome = act(link, client.role.as_mut(), &mut io);
        if outcome == Err(Over::Goodbye) {
            client.role.parted(&mut io);
        }
        link.out().extend_from_slice(&out);
        link.expect(self.now, asks);
        if wants_close && link.close(self.now) {
            self.facts.push(Fact::Leaving(conn));
        }
        if let Some(at) = wake_at {
            self.plan_turn(index, at);
        }
        if let Err(over) = outcome {
            self.over(index, over);
            return;
        }
        self.flush_client(conn);
        self.plan_link_timer(conn);
    }

    /// Sends what a client has written, as far as the pipe takes it.
    pub(super) fn flush_client(&mut self, conn: ConnId) {
        let at = self.arrival(conn);
        let Some(there) = self.conns.get_mut(conn as usize) else { return };
        let Some(client) = self.clients.get_mut(there.client) else { return };
        if client.conn != Some(conn) {
            return;
        }
        let Some(link) = client.link.as_mut() else { return };
        if link.out().is_empty() {
            return;
        }
        let (written, arrives) = there.pipe.up.write(link.out(), at);
        if written == 0 {
            return;
        }
        bytes::Buf::advance(link.out(), written);
        link.on_written(self.now);
        if there.is_ended && self.server.node.is_some() {
            // A server that came back knows nothing of this connection.
            let at = there.pipe.down.end(arrives, Ending::Reset);
            self.at(at, Event::Down(conn));
        }
        self.at(arrives, Event::Up(conn));
    }

    pub(super) fn link_timer(&mut self, conn: ConnId) {
        let now = self.now;
        let Some(there) = self.conns.get_mut(conn as usize) else { return };
        if there.link_timer != Some(now) {
            return;
        }
        there.link_timer = None;
        let index = there.client;
        let Some(client) = self.clients.get_mut(index).filter(|one| one.conn == Some(conn)) else {
            return;
        };
        // A client that does not read does not know what has come meanwhile.
        let outcome = match client.link.as_mut() {
            Some(link) if now >= client.slow_until => link.on_time(now),
            Some(_) => Ok(()),
            None => return,
        };
        if let Err(over) = outcome {
            self.over(index, over);
            return;
        }
        self.flush_client(conn);
        self.plan_link_timer(conn);
    }

    fn plan_link_timer(&mut self, conn: ConnId) {
        let now = self.now;
        let Some(there) = self.conns.get_mut(conn as usize) else { return };
        let Some(client) = self.clients.get(there.client) else { return };
        let Some(link) = client.link.as_ref().filter(|_| client.conn == Some(conn)) else { return };
        let deadline = link.deadline();
        if deadline == Micros::MAX {
            return;
        }
        let at = deadline.max(client.slow_until).max(now + 1_000);
        if there.link_timer.is_none_or(|planned| planned > at) {
            there.link_timer = Some(at);
            self.at(at, Event::LinkTimer(conn));
        }
    }

    /// A client's connection is over; it comes again if it has more to do.
    pub(super) fn over(&mut self, index: usize, over: Over) {
        let now = self.now;
        let Some(client) = self.clients.get_mut(index) else { return };
        let Some(conn) = client.conn.take() else { return };
        let words = client.link.take().map(|link| link.last_words().to_owned()).unwrap_or_default();
        self.trace.note(now, &(conn, over, words));
        if over != Over::Goodbye {
            self.lose_role(index, conn);
        }
        let at = self.arrival(conn);
        if let Some(there) = self.conn(conn) {
            let ending = if over == Over::Silence { Ending::Reset } else { Ending::Closed };
            let at = there.pipe.up.end(at, ending);
            there.pipe.down.lose();
            self.at(at, Event::Up(conn));
        }
        let pause = SECOND / 50 + self.dice.below(SECOND / 2);
        let Some(client) = self.clients.get_mut(index) else { return };
        if !client.is_done && !client.is_connecting && self.stage != Stage::Leaving {
            client.is_connecting = true;
            self.at(now + pause, Event::Connect(index));
        }
        self.watch_planting();
    }

    fn lose_role(&mut self, index: usize, conn: ConnId) {
        let (log_ms, shown_ms, is_smooth) = (self.clock.latest(), 0, false);
        let Some(client) = self.clients.get_mut(index) else { return };
        let mut io = Io {
            now: self.now,
            log_ms,
            shown_ms,
            is_smooth,
            stage: self.stage,
            conn,
            is_stale: true,
            dice: &mut client.dice,
            out: &mut bytes::BytesMut::new(),
            asks: &mut Vec::new(),
            facts: &mut self.facts,
            garden: &self.garden,
            book: &mut self.book,
            wake_at: &mut None,
            wants_close: &mut false,
            is_done: &mut client.is_done,
        };
        client.role.lost(&mut io);
    }
}
