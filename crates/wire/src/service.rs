//! [`Service`]: the engine's side of a door, as `net::drive` sees it. The binary implements it
//! over the commit pipeline; tests over a script.

use std::{net::SocketAddr, rc::Rc};

use model::{Envelope, Output, SessionId};

use crate::Close;

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The peer's socket address; trust decisions look at nothing else.
    pub address: SocketAddr,
    /// Which door it came through, e.g. `amqp`.
    pub door: &'static str,
}

/// Takes requests and gives outputs, in order, each only once it is durable.
pub trait Service {
    /// A new connection. `wake` is called (from the same thread) when there is something to
    /// [`Service::collect`] or when [`Service::is_paused`] may have changed.
    fn open(&self, peer: Peer, wake: Rc<dyn Fn()>) -> SessionId;

    /// Applies requests in order; leaves `batch` empty.
    fn submit(&self, session: SessionId, batch: &mut Vec<Envelope>);

    /// Passes released outputs to `sink` in order until there are none or `sink` says stop with
    /// `Ok(false)`. Returns whether outputs may be left that could be taken now.
    ///
    /// # Errors
    /// What `sink` returned; the output it was given is gone.
    fn collect(
        &self,
        session: SessionId,
        sink: &mut dyn FnMut(Output<'_>) -> Result<bool, Close>,
    ) -> Result<bool, Close>;

    /// Whether this session must not be read from for now (log or memory is short of room).
    fn is_paused(&self, session: SessionId) -> bool;

    /// The connection is gone: ends its channels, returns its deliveries, drops what is exclusive.
    fn close(&self, session: SessionId);
}
