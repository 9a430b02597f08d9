//! What nobody who means well would send, limits, and what the door asks when. Whole
//! conversations are the stories' business.

use std::{rc::Rc, sync::Arc, time::Instant};

use bytes::BytesMut;
use model::{Envelope, Event, Noun, Refusal, Reply, Request, Work};
use wire::{Close, Connection as _, Outbox};

use super::{
    super::{ASKED_MAX, HELD_BYTES_MAX, NOTES_BYTES_MAX, NOTES_MAX, ticket::Ask},
    play::{Cut, FakeHost, Garden},
};
use crate::{Connection, Options};

/// A connection whose engine is the test.
struct Alone {
    connection: Connection,
    input: BytesMut,
    out: Outbox,
    now: Instant,
}

impl Alone {
    /// Past its opening.
    fn new() -> Self {
        let connection = Connection::new(Arc::default(), Rc::new(FakeHost::default()), true);
        let (input, out) = (BytesMut::new(), Outbox::new());
        let mut alone = Self { connection, input, out, now: Instant::now() };
        alone.connection.on_open(alone.now, &mut alone.out);
        for (ask, reply) in [
            (Ask::Vhost, Reply::Done),
            (Ask::Channel, Reply::Done),
            (Ask::FirstUse, Reply::Done),
            (Ask::FirstWatch, Reply::Watching { count: 1, is_last: false }),
        ] {
            alone.reply(ask, reply);
        }
        alone.out.requests.clear();
        alone
    }

    fn send(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        self.connection.on_bytes(self.now, &mut self.input, &mut self.out).unwrap();
    }

    fn reply(&mut self, ask: Ask, reply: Reply) {
        self.connection.on_reply(self.now, (1, ask.ticket()), reply, &mut self.out).unwrap();
    }

    fn refuse(&mut self, ask: Ask) {
        let name = bytes::Bytes::new();
        self.reply(ask, Reply::Refused(Box::new(Refusal::NotFound { noun: Noun::Queue, name })));
    }

    fn said(&mut self) -> String {
        String::from_utf8(self.out.bytes.split().to_vec()).unwrap()
    }

    fn asked(&mut self) -> Vec<Request> {
        self.out.requests.drain(..).map(|Envelope { request, .. }| request).collect()
    }
}

/// What client A gets for `input`.
fn answers(input: &[u8]) -> String {
    let mut garden = Garden::new(Options::default());
    garden.send('A', input, Cut::Whole);
    String::from_utf8_lossy(&garden.client('A').received).into_owned()
}

#[test]
fn a_body_over_the_limit_is_drained_and_not_run() {
    let mut input = b"put 0 0 1 1\r\nx\r\nput 0 0 1 65536\r\n".to_vec();
    let mut body = b"delete 1\r\n".repeat(6_553);
    body.resize(65_536, b' ');
    input.extend(body);
    input.extend(b"\r\npeek 1\r\n");
    assert_eq!(answers(&input), "INSERTED 1\r\nJOB_TOO_BIG\r\nFOUND 1 1\r\nx\r\n");
}

#[test]
fn announced_sizes_allocate_nothing() {
    for size in ["2147483648", "4294967295"] {
        let mut alone = Alone::new();
        alone.send(format!("put 0 0 1 {size}\r\n").as_bytes());
        for _ in 0..100 {
            alone.send(&[b'x'; 10_000]);
            assert!(alone.input.is_empty());
        }
        assert!(alone.out.bytes.is_empty() && alone.out.requests.is_empty());
    }
}

#[test]
fn a_line_without_an_end_is_not_kept() {
    let mut alone = Alone::new();
    for _ in 0..100 {
        alone.send(&[b'x'; 10_000]);
        assert!(alone.input.len() <= 224);
    }
    alone.send(b"\r");
    alone.send(b"\nlist-tube-used\r\n");
    assert_eq!(alone.said(), "BAD_FORMAT\r\n");
    alone.reply(Ask::ListTubeUsed, Reply::Done);
    assert_eq!(alone.said(), "USING default\r\n");
}

#[test]
fn a_body_is_a_slice_of_the_input() {
    let mut alone = Alone::new();
    let mut input = BytesMut::from(&b"put 1 2 0 9\r\nnine byte\r\n"[..]);
    let at = input.as_ptr() as usize + 13;
    alone.connection.on_bytes(alone.now, &mut input, &mut alone.out).unwrap();
    let asked = alone.asked();
    let [Request::Enqueue(enqueue)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(enqueue.body.as_ptr() as usize, at);
    assert_eq!((enqueue.rank, enqueue.delay_s, enqueue.lease_s), (1, 2, 1));
}

#[test]
fn what_the_door_says_itself_keeps_its_place() {
    let mut alone = Alone::new();
    alone.send(b"nonsense\r\n");
    assert_eq!(alone.said(), "UNKNOWN_COMMAND\r\n");
    alone.send(b"delete 1\r\nnonsense\r\nput \r\ndelete 2\r\nstat\r\n");
    assert_eq!(alone.said(), "");
    let kinds: Vec<_> = alone.asked().iter().map(|asked| format!("{asked:?}")).collect();
    assert_eq!(
        kinds,
        ["Job(JobId(1), Delete)", "Echo", "Job(JobId(2), Delete)", "Echo"],
        "neighbours share an echo"
    );
    for (ask, reply, said) in [
        (Ask::Delete, Reply::Empty, "NOT_FOUND\r\n"),
        (Ask::Say, Reply::Done, "UNKNOWN_COMMAND\r\nBAD_FORMAT\r\n"),
        (Ask::Delete, Reply::Done, "DELETED\r\n"),
        (Ask::Say, Reply::Done, "UNKNOWN_COMMAND\r\n"),
    ] {
        alone.reply(ask, reply);
        assert_eq!(alone.said(), said);
    }
    alone.send(b"stat\r\n");
    assert_eq!(alone.said(), "UNKNOWN_COMMAND\r\n");
}

#[test]
fn notes_and_questions_are_bounded() {
    let mut alone = Alone::new();
    alone.send(b"delete 1\r\n");
    alone.send(&b"\r\n".repeat(100_000));
    assert_eq!(alone.out.requests.len(), 2);
    let most = NOTES_BYTES_MAX.div_ceil("UNKNOWN_COMMAND\r\n".len());
    assert_eq!(alone.input.len(), 200_000 - 2 * most);
    assert!(!alone.connection.wants_input(alone.input.len()));
    assert!(alone.connection.wants_input(HELD_BYTES_MAX));

    let mut alone = Alone::new();
    for _ in 0..3 {
        alone.send(&b"use a\r\n".repeat(1_000));
    }
    assert_eq!(alone.out.requests.len(), NOTES_MAX);

    let mut alone = Alone::new();
    alone.send(&b"stats\r\n".repeat(1_000));
    assert_eq!(alone.out.requests.len(), 64);

    let mut alone = Alone::new();
    let mut asked = 0;
    for _ in 0..30 {
        alone.send(&b"touch 1\r\n".repeat(4_000));
        asked += alone.asked().len();
    }
    assert_eq!(asked, ASKED_MAX);
    alone.reply(Ask::Touch, Reply::Done);
    alone.send(b"");
    assert_eq!(alone.asked().len(), 1);
}

#[test]
fn claims_pile_up_to_a_limit_and_hold_the_rest_back() {
    let mut alone = Alone::new();
    alone.send(&b"reserve\r\n".repeat(3_000));
    assert_eq!(alone.out.requests.len(), 1024);
    alone.input.clear();
    alone.send(b"");
    alone.reply(Ask::PatientClaim, Reply::LeaseEnding);
    alone.out.requests.clear();
    alone.send(b"reserve\r\nreserve-with-timeout 1\r\nreserve\r\n");
    assert_eq!(alone.asked().len(), 1);
    for _ in 0..1024 {
        alone.reply(Ask::PatientClaim, Reply::Empty);
    }
    alone.send(b"");
    let asked = alone.asked();
    assert!(matches!(asked[..], [Request::Claim { is_timed: true }]), "{asked:?}");
    // Nothing behind a timed one, and it is withdrawn once.
    let deadline = alone.connection.deadline().unwrap();
    assert_eq!(deadline, alone.now + std::time::Duration::from_secs(1));
    alone.connection.on_deadline(alone.now, &mut alone.out).unwrap();
    assert!(alone.out.requests.is_empty());
    alone.connection.on_deadline(deadline, &mut alone.out).unwrap();
    assert!(matches!(alone.asked()[..], [Request::Withdraw]));
    assert_eq!(alone.connection.deadline(), None);
    alone.send(b"");
    assert!(alone.out.requests.is_empty());
    alone.said();
    alone.reply(Ask::TimedClaim, Reply::Empty);
    assert_eq!(alone.said(), "TIMED_OUT\r\n");
    alone.send(b"");
    assert!(matches!(alone.asked()[..], [Request::Claim { is_timed: false }]));
}

#[test]
fn a_hundred_thousand_tubes_are_too_many() {
    let mut garden = Garden::new(Options::default());
    let mut input = Vec::new();
    for tube in 0..5_000 {
        input.extend(format!("watch t{tube}\r\n").bytes());
    }
    let mut alone = Alone::new();
    alone.input.extend_from_slice(&input);
    let mut watching = 1;
    while !alone.input.is_empty() {
        alone.send(b"");
        for request in alone.asked() {
            match request {
                Request::Work(work) => {
                    assert!(matches!(*work, Work::Watch(_)));
                    watching += 1;
                    alone.reply(Ask::Watch, Reply::Watching { count: watching, is_last: false });
                }
                Request::Echo => alone.reply(Ask::Say, Reply::Done),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(watching, 1024);
    assert!(alone.said().contains("WATCHING 1024\r\nOUT_OF_MEMORY\r\n"));
    alone.send(b"watch t1\r\n");
    assert_eq!(alone.asked().len(), 1, "one that is watched already");
    garden.send('A', b"ignore default\r\nignore default\r\n", Cut::Whole);
    let received = String::from_utf8(garden.client('A').received.clone()).unwrap();
    assert_eq!(received, "NOT_IGNORED\r\nNOT_IGNORED\r\n");
}

#[test]
fn a_batch_stops_where_memory_would() {
    let mut garden = Garden::new(Options::default());
    let mut put = b"put 0 0 60 65535\r\n".to_vec();
    put.resize(put.len() + 65_535, b'x');
    put.extend(b"\r\n");
    for _ in 0..100 {
        garden.send('A', &put, Cut::Whole);
    }
    garden.client('A').received.clear();
    garden.send('A', b"reserve-batch 1000\r\n", Cut::Whole);
    let received = std::mem::take(&mut garden.client('A').received);
    assert!(received.starts_with(b"RESERVED_BATCH 16\r\n"), "{}", received.len());
    garden.send('A', b"stats-tube default\r\n", Cut::Whole);
    let stats = String::from_utf8(garden.client('A').received.clone()).unwrap();
    assert!(stats.contains("current-jobs-reserved: 16\n"), "{stats}");
}

#[test]
fn a_use_that_is_refused_changes_nothing() {
    let mut alone = Alone::new();
    alone.send(b"use a\r\n");
    alone.reply(Ask::Use, Reply::Done);
    alone.send(b"use b\r\nuse c\r\n");
    alone.refuse(Ask::Use);
    alone.refuse(Ask::Use);
    assert_eq!(alone.said(), "USING a\r\nNOT_FOUND\r\nNOT_FOUND\r\n");
    alone.asked();
    alone.send(b"watch b\r\nlist-tubes-watched\r\nlist-tube-used\r\npeek-ready\r\n");
    alone.refuse(Ask::Watch);
    alone.reply(Ask::ListTubesWatched, Reply::Done);
    alone.reply(Ask::ListTubeUsed, Reply::Done);
    let said = alone.said();
    assert_eq!(said, "NOT_FOUND\r\nOK 14\r\n---\n- default\n\r\nUSING a\r\n");
    let asked = alone.asked();
    assert!(format!("{asked:?}").contains("LookFirst(b\"a\", Ready)"), "{asked:?}");
}

#[test]
fn an_answer_that_makes_no_sense_is_still_an_answer() {
    let mut alone = Alone::new();
    alone.send(b"put 0 0 1 1\r\nx\r\n");
    alone.reply(Ask::Put, Reply::Done);
    assert_eq!(alone.said(), "INTERNAL_ERROR\r\n");
}

#[test]
fn the_server_may_end_it() {
    let mut alone = Alone::new();
    let end = alone.connection.on_event(alone.now, Event::Shutdown("bye"), &mut alone.out);
    assert_eq!(end, Err(Close::Shutdown("bye")));
    let event = Event::Blocked(Some("disk"));
    assert_eq!(alone.connection.on_event(alone.now, event, &mut alone.out), Ok(()));
}

#[test]
fn a_connection_is_small() {
    assert!(size_of::<Connection>() <= 512, "{} bytes", size_of::<Connection>());
}

#[test]
fn decoding_stops_when_the_outbox_is_full() {
    let mut alone = Alone::new();
    alone.send(&b"delete 1\r\n".repeat(10_000));
    assert_eq!(alone.asked().len(), wire::OUTBOX_REQUESTS_MAX);
    alone.send(b"");
    assert_eq!(alone.asked().len(), wire::OUTBOX_REQUESTS_MAX);
}

#[test]
fn a_withdrawal_has_no_answer() {
    let mut alone = Alone::new();
    alone.send(b"reserve-with-timeout 0\r\n");
    alone.refuse(Ask::Claim);
    alone.refuse(Ask::Withdraw);
    assert_eq!(alone.said(), "NOT_FOUND\r\n");
}
