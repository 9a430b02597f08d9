//! Endings: failures of channels and of the connection, goodbyes from either side, and what still
//! may be heard meanwhile.

use std::time::Instant;

use model::{Refusal, Request};
use wire::{Close, Outbox};

use super::{
    Connection, Phase, State, Stop, parsed,
    ticket::{self, Ask},
};
use crate::{
    codec::{self, Head},
    map::{self, Code, Failure},
    table::Method,
};

impl Connection {
    /// Ends the channel, or for a hard error the connection, and tells the peer why.
    pub(super) fn fail(
        &mut self,
        number: u16,
        failure: Failure,
        out: &mut Outbox,
    ) -> Result<(), Close> {
        if failure.code.is_hard() || !self.channels.is_open(number) {
            return self.fail_connection(&failure, out);
        }
        // The engine ends the channel first: what it still answers for earlier frames, confirms
        // above all, then reaches the peer before the failure does.
        if let Some(channel) = self.channels.get_mut(number) {
            channel.assembly = None;
            channel.state = State::Failing(Box::new(failure));
        }
        out.submit(number, ticket::plain(Ask::CloseThenTell), Request::CloseChannel);
        Ok(())
    }

    /// The engine refused something and ignores the channel until it is closed.
    pub(super) fn on_refusal(
        &mut self,
        number: u16,
        ask: Ask,
        refusal: &Refusal,
        out: &mut Outbox,
    ) -> Result<(), Stop> {
        match ask {
            Ask::Login => return self.on_login_refused(out).map_err(Stop::Close),
            Ask::Vhost => {
                let failure = handshake_failure(refusal, &self.login.vhost, &self.login.user);
                return Err(failure.because_of(ask.cause()).into());
            }
            _ => {}
        }
        let failure = match (ask, refusal) {
            (Ask::Commit, Refusal::LimitReached { .. }) => {
                map::precondition("partial tx completion")
            }
            _ => map::refusal(refusal, &self.login.vhost),
        };
        let failure = failure.because_of(ask.cause());
        if failure.code.is_hard() {
            return Err(failure.into());
        }
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        match channel.state {
            // Its `CloseChannel` is on the way; the earlier failure is the one to tell.
            State::Failing(ref mut told) => **told = failure,
            State::Open => {
                channel.endings = channel.endings.saturating_add(1);
                out.submit(number, ticket::plain(Ask::CloseQuietly), Request::CloseChannel);
                self.tell_closed(number, &failure, out);
            }
            State::Told | State::Leaving | State::Gone => {}
        }
        Ok(())
    }

    /// Writes `channel.close`; from now on the peer's agreement is awaited.
    fn tell_closed(&mut self, number: u16, failure: &Failure, out: &mut Outbox) {
        self.write_confirms_of(number, out);
        let (class, method) = failure.cause;
        let text = failure.reply_text();
        let close = Method::ChannelClose {
            reply_code: failure.code as u16,
            reply_text: text.as_bytes(),
            class,
            method,
        };
        close.put(&mut out.bytes, number);
        if let Some(channel) = self.channels.get_mut(number) {
            channel.reset(State::Told);
        }
    }

    /// The engine has ended a channel, of the present life of its number or of a former one.
    pub(super) fn on_channel_ended(
        &mut self,
        number: u16,
        ask: Ask,
        out: &mut Outbox,
    ) -> Result<(), Stop> {
        if ask == Ask::CloseThenAnswer && !matches!(self.phase, Phase::Closing(_)) {
            Method::ChannelCloseOk {}.put(&mut out.bytes, number);
        }
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        if channel.endings > 0 {
            channel.endings = channel.endings.saturating_sub(1);
            if channel.endings == 0 && matches!(channel.state, State::Gone) {
                self.channels.remove(number);
            }
            return Ok(());
        }
        match (ask, std::mem::replace(&mut channel.state, State::Gone)) {
            (Ask::CloseThenTell, State::Failing(failure)) => {
                self.tell_closed(number, &failure, out);
            }
            (Ask::CloseThenAnswer, _) => self.channels.remove(number),
            (_, state) => channel.state = state,
        }
        if ask == Ask::CloseQuietly { Ok(()) } else { Ok(self.on_channel_left(out)?) }
    }

    /// A method on a channel that failed or is being closed: only goodbyes are heard.
    pub(super) fn on_method_while_failed(
        &mut self,
        number: u16,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Stop> {
        // Anything else is ignored, well formed or not.
        let Ok(method) = parsed(payload) else { return Ok(()) };
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        match (method, &channel.state) {
            (Method::ChannelCloseOk {}, State::Told) => self.channels.remove(number),
            (Method::ChannelClose { .. }, State::Told | State::Failing(_)) => {
                Method::ChannelCloseOk {}.put(&mut out.bytes, number);
            }
            (Method::ChannelOpen { .. }, State::Told) => {
                self.channels.remove(number);
                return self.on_channel_class(number, &method, out);
            }
            _ => {}
        }
        Ok(())
    }

    /// Tells the peer why the connection ends, and ends all channels.
    fn fail_connection(&mut self, failure: &Failure, out: &mut Outbox) -> Result<(), Close> {
        let text = failure.reply_text();
        if matches!(self.phase, Phase::Header | Phase::Start | Phase::Login) {
            // Nobody is logged in: no word more than needed.
            return Err(Close::Violation(text));
        }
        if matches!(self.phase, Phase::Closing(_)) {
            return Ok(());
        }
        let (class, method) = failure.cause;
        let reply_code = failure.code as u16;
        let reply_text = text.as_bytes();
        let close = Method::ConnectionClose { reply_code, reply_text, class, method };
        close.put(&mut out.bytes, 0);
        self.end_channels(Ask::CloseQuietly, out);
        self.expires = None;
        self.phase = Phase::Closing(Box::new(Close::Violation(text)));
        Ok(())
    }

    /// Asks the engine to end every channel that it has not been asked to end. Says how many have
    /// yet to end.
    fn end_channels(&mut self, ask: Ask, out: &mut Outbox) -> u16 {
        let mut count = 0_u16;
        for channel in self.channels.iter_mut() {
            match channel.state {
                State::Open => {
                    out.submit(channel.number, ticket::plain(ask), Request::CloseChannel);
                    count = count.saturating_add(1);
                }
                State::Failing(_) | State::Leaving => count = count.saturating_add(1),
                State::Told | State::Gone => {}
            }
            channel.reset(State::Gone);
        }
        count
    }

    /// The peer says goodbye: answered when everything it asked for is done.
    pub(super) fn on_goodbye(&mut self, out: &mut Outbox) -> Result<(), Close> {
        self.write_confirms(out);
        let count = self.end_channels(Ask::CloseAndLeave, out);
        self.expires = None;
        self.phase = Phase::Leaving(count);
        if count == 0 { answer_goodbye(out) } else { Ok(()) }
    }

    fn on_channel_left(&mut self, out: &mut Outbox) -> Result<(), Close> {
        let Phase::Leaving(count) = &mut self.phase else { return Ok(()) };
        *count = count.saturating_sub(1);
        if *count == 0 { answer_goodbye(out) } else { Ok(()) }
    }

    /// A frame after somebody said goodbye: only the answer to it is heard.
    pub(super) fn on_frame_while_closing(
        &mut self,
        head: Head,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Stop> {
        if head.kind != codec::METHOD || head.channel != 0 {
            return Ok(());
        }
        match (parsed(payload), &self.phase) {
            (Ok(Method::ConnectionCloseOk {}), Phase::Closing(close)) => {
                Err(Stop::Close((**close).clone()))
            }
            (Ok(Method::ConnectionClose { .. }), Phase::Closing(close)) => {
                Method::ConnectionCloseOk {}.put(&mut out.bytes, 0);
                Err(Stop::Close((**close).clone()))
            }
            _ => Ok(()),
        }
    }

    /// The server stops: say so and wait a moment for the answer.
    ///
    /// # Errors
    /// Before login, and when the peer is leaving anyway, there is nobody to tell.
    pub(super) fn on_shutdown(
        &mut self,
        reason: &'static str,
        out: &mut Outbox,
    ) -> Result<(), Close> {
        self.write_confirms(out);
        if matches!(self.phase, Phase::Leaving(_)) {
            return Err(Close::Shutdown(reason));
        }
        let text = format!("broker forced connection closure with reason '{reason}'");
        self.fail_connection(&Failure::new(Code::ConnectionForced, text), out)
            .map_err(|_| Close::Shutdown(reason))?;
        self.phase = Phase::Closing(Box::new(Close::Shutdown(reason)));
        Ok(())
    }

    /// Starts the clock of a goodbye that was said just now.
    pub(super) fn note_goodbye(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Closing(_) | Phase::Leaving(_)) && self.expires.is_none() {
            self.expires = now.checked_add(self.options.goodbye);
        }
    }
}

fn answer_goodbye(out: &mut Outbox) -> Result<(), Close> {
    Method::ConnectionCloseOk {}.put(&mut out.bytes, 0);
    Err(Close::Done)
}

/// Why a virtual host cannot be entered. Source: observed, `RabbitMQ` 3.10.8.
fn handshake_failure(refusal: &Refusal, vhost: &[u8], user: &[u8]) -> Failure {
    let (vhost, user) = (map::printable(vhost), map::printable(user));
    match refusal {
        Refusal::NotFound { .. } => {
            Failure::new(Code::NotAllowed, format!("vhost {vhost} not found"))
        }
        Refusal::NotPermitted { .. } => Failure::new(
            Code::NotAllowed,
            format!("access to vhost '{vhost}' refused for user '{user}'"),
        ),
        other => map::refusal(other, vhost.as_bytes()),
    }
}
