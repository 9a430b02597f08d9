//! A message record: any bytes read without a panic; a message that the engine wrote reads back as
//! it was published, from the log and from memory, also after a restart.

use bytes::Bytes;
use engine::{Effects, Engine, Place, Push, SessionInfo};
use model::{
    Consume, ConsumerId, DeclareQueue, Envelope, Limits, Millis, Publish, PublishOptions,
    QueueSpec, Request, SessionId, Stamp, Ticket,
};

use crate::source::Source;
use crate::tape::Tape;

const SESSION: SessionId = SessionId::from_parts(0, 1);

/// The first byte chooses between any bytes as a record, and a message's parts.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    if source.is() {
        if let Some(message) = engine::message(source.rest()) {
            let parts = [message.exchange, message.routing_key, message.properties, message.body];
            assert!(parts.concat().len() <= source.rest().len());
        }
        return;
    }
    round_trip(&mut source);
}

fn round_trip(source: &mut Source<'_>) {
    let is_durable = source.is();
    let options = PublishOptions {
        priority: source.u8(),
        expiration_ms: source.is().then(|| 1 + source.u64() / 2),
        has_headers: source.is(),
        extra_keys: source.is().then(|| Box::new(vec![Bytes::copy_from_slice(source.bytes(255))])),
        ..PublishOptions::default()
    };
    let properties = Bytes::copy_from_slice(source.bytes(255));
    let body = Bytes::copy_from_slice(source.rest());
    let mut engine = Engine::new(Limits::default());
    let mut tape = Tape::default();
    let mut out = Effects::default();
    engine.open_session(SESSION, SessionInfo::default());
    let queue = Bytes::from_static(b"q");
    let spec = QueueSpec { is_durable, ..QueueSpec::default() };
    let publish = Publish {
        exchange: Bytes::new(),
        routing_key: queue.clone(),
        properties: properties.clone(),
        body: body.clone(),
        options,
    };
    let consume = Consume {
        queue: queue.clone(),
        id: ConsumerId(1),
        label: Bytes::new(),
        no_ack: false,
        is_exclusive: false,
        priority: 0,
    };
    for request in [
        Request::OpenVhost(Bytes::from_static(b"/")),
        Request::OpenChannel { is_strict: false },
        Request::DeclareQueue(Box::new(DeclareQueue { name: queue.clone(), spec })),
        Request::Consume(Box::new(consume)),
        Request::Publish(publish),
    ] {
        let envelope = Envelope { channel: 1, ticket: Ticket(1), request };
        let at = Stamp { now: Millis(1), nonce: 3 };
        engine.apply(at, SESSION, envelope, &mut tape, &mut out);
    }
    let handout = out.outputs.iter().find_map(|output| match &output.push {
        Push::Deliver { delivery, .. } => Some(delivery),
        _ => None,
    });
    let stored = match &handout.expect("a consumer waits").place {
        Place::Log(lsn) => tape.payload(*lsn),
        Place::Memory(bytes) => bytes,
    };
    let message = engine::message(stored).expect("own record");
    assert_eq!((message.exchange, message.routing_key), (&b""[..], &b"q"[..]));
    assert_eq!((message.properties, message.body), (&properties[..], &body[..]));
    let mut restarted = Engine::new(Limits::default());
    for (lsn, kind, _, payload) in &tape.records {
        restarted.replay(*lsn, *kind, payload).expect("own record");
    }
    assert_eq!(restarted.state_hash(), engine.state_hash());
}
