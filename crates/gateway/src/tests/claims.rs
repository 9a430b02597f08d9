//! Claims: waiting, the rest, clients that go away, answers that grow too large. Over a script,
//! like everything in `tests`.

use model::{Idle, MessageRef, Millis, Refusal, Reply, Request};
use serde_json::{Value, json};

use super::{NOW, call, end, failure, hand, not_permitted, parse, refuse, reply, taken};
use crate::{Ask, Call, Lane, Under};

fn claim(more: &Value) -> Call {
    let mut body = json!({"worker": "gpu-7", "queues": ["q"]});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    call("POST", "claim", &body)
}

fn message(body: &[u8]) -> MessageRef<'_> {
    MessageRef { body, ..MessageRef::default() }
}

/// What a `Take` asks for.
fn take(ask: &Ask) -> (u32, bool) {
    let Request::Take(take) = &ask.request else { panic!("{ask:?}") };
    assert_eq!(ask.lane, Lane::Own);
    (take.most, take.waits)
}

fn is_withdraw(asks: &[Ask]) -> bool {
    matches!(asks, [Ask { request: Request::Withdraw, lane: Lane::Own, .. }])
}

#[test]
fn what_is_ready_is_handed_over() {
    let mut call = claim(&json!({"most": 8, "lease_s": 30}));
    assert_eq!(call.under(), &Under::Worker { name: "gpu-7".into(), lease_s: 30 });
    let asks = call.start(NOW);
    assert_eq!((take(&asks[0]), call.deadline()), ((8, false), None));
    hand(&mut call, &asks[0], 1, message(b"one"));
    hand(&mut call, &asks[0], 2, message(b"two"));
    assert!(taken(&mut call, &asks[0], 2, Idle::Empty).is_empty());
    let answer = end(&mut call);
    assert_eq!(answer["idle"], Value::Null);
    let first = json!({"id": "3-1", "attempt": 2, "failures": 1, "queue": "q", "key": "3-1",
        "text": "one", "content_type": "", "headers": {}, "published_ms": 7});
    assert_eq!(answer["items"][0], first);
    assert_eq!(answer["items"].as_array().unwrap().len(), 2);
}

#[test]
fn nothing_says_why() {
    let words = [
        (Idle::Empty, "empty"),
        (Idle::Claimed, "claimed"),
        (Idle::Delayed, "delayed"),
        (Idle::Buried, "buried"),
        (Idle::Paused, "paused"),
    ];
    for (idle, word) in words {
        let mut call = claim(&json!({}));
        let asks = call.start(NOW);
        taken(&mut call, &asks[0], 0, idle);
        assert_eq!(end(&mut call), json!({"items": [], "idle": word}));
    }
}

#[test]
fn who_waited_takes_the_rest_too() {
    let mut call = claim(&json!({"most": 5, "wait_s": 20}));
    let asks = call.start(NOW);
    assert_eq!(take(&asks[0]), (5, true));
    assert_eq!(call.deadline(), Some(Millis(NOW.0 + 20_000)));
    hand(&mut call, &asks[0], 1, message(b"one"));
    let rest = taken(&mut call, &asks[0], 1, Idle::Empty);
    assert_eq!((take(&rest[0]), call.deadline()), ((4, false), None));
    assert!(call.answer().is_none());
    hand(&mut call, &rest[0], 2, message(b"two"));
    assert!(taken(&mut call, &rest[0], 1, Idle::Empty).is_empty());
    assert_eq!(end(&mut call)["items"].as_array().unwrap().len(), 2);
}

#[test]
fn the_end_of_the_wait_withdraws_and_takes_what_came_in_between() {
    let mut call = claim(&json!({"wait_s": 1}));
    let asks = call.start(NOW);
    assert!(is_withdraw(&call.on_deadline()));
    assert_eq!(call.deadline(), None);
    assert!(call.on_deadline().is_empty(), "once");
    hand(&mut call, &asks[0], 1, message(b"late"));
    assert!(taken(&mut call, &asks[0], 1, Idle::Empty).is_empty());
    assert_eq!(end(&mut call)["items"][0]["text"], "late");

    let mut call = claim(&json!({"wait_s": 1}));
    let asks = call.start(NOW);
    call.on_deadline();
    reply(&mut call, &asks[0], Reply::Empty);
    assert_eq!(end(&mut call), json!({"items": [], "idle": "empty"}));
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    let mut call = claim(&json!({"most": 5, "wait_s": 20}));
    let asks = call.start(NOW);
    hand(&mut call, &asks[0], 1, message(b"one"));
    let backs = call.abandon();
    assert_eq!(backs.len(), 2);
    assert!(matches!(backs[0].request, Request::Withdraw));
    let Request::GiveBack(back) = &backs[1].request else { panic!("{backs:?}") };
    assert!(back.failure.is_none() && back.held.attempt == 2);
    let late = hand(&mut call, &asks[0], 2, message(b"two"));
    assert!(matches!(late[0].request, Request::GiveBack(_)));
    assert!(!call.is_over());
    assert!(taken(&mut call, &asks[0], 2, Idle::Empty).is_empty(), "nothing more is taken");
    assert!(!call.is_over());
    reply(&mut call, &backs[1], Reply::Released { is_buried: false });
    reply(&mut call, &late[0], Reply::Empty);
    assert!(call.is_over() && call.answer().is_none());
}

#[test]
fn large_jobs_come_a_few_at_a_time() {
    let mut call = claim(&json!({"most": 1000}));
    let asks = call.start(NOW);
    assert_eq!(take(&asks[0]), (16, false));
    let large = vec![b'x'; 3 << 20];
    let mut backs = 0;
    for id in 0..16 {
        backs += hand(&mut call, &asks[0], id, message(&large)).len();
    }
    assert_eq!(backs, 10, "six fit into 20 MiB");
    assert!(taken(&mut call, &asks[0], 16, Idle::Empty).is_empty());
    assert!(call.answer().is_none(), "what does not fit goes back first");
}

#[test]
fn small_jobs_come_many_at_a_time() {
    let mut call = claim(&json!({"most": 1000}));
    let asks = call.start(NOW);
    for id in 0..16 {
        hand(&mut call, &asks[0], id, message(b"small"));
    }
    let rest = taken(&mut call, &asks[0], 16, Idle::Empty);
    assert_eq!(take(&rest[0]), (984, false));
    refuse(&mut call, &rest[0], Refusal::NotOpen);
    assert_eq!(end(&mut call)["items"].as_array().unwrap().len(), 16, "they must not be lost");
}

#[test]
fn a_refusal_is_the_answer() {
    let mut call = claim(&json!({}));
    let asks = call.start(NOW);
    refuse(&mut call, &asks[0], not_permitted());
    assert_eq!(failure(&mut call), (403, "not_permitted".to_owned()));
    assert!(call.is_over());
}

#[test]
fn what_is_out_of_range_is_refused() {
    for more in [
        json!({"most": 0}),
        json!({"most": 1001}),
        json!({"most": -1}),
        json!({"most": 1.5}),
        json!({"wait_s": 61}),
        json!({"lease_s": 4}),
        json!({"lease_s": 3601}),
        json!({"queues": []}),
        json!({"queues": [""]}),
        json!({"queues": ["a\u{0}b"]}),
        json!({"queues": ["q".repeat(256)]}),
        json!({"queues": vec!["q"; 257]}),
        json!({"worker": ""}),
        json!({"worker": "w".repeat(129)}),
        json!({"worker": "a\nb"}),
        json!({"mosst": 1}),
        json!({"most": null}),
    ] {
        let mut body = json!({"worker": "w", "queues": ["q"]});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        let body = serde_json::to_vec(&body).unwrap();
        let answer = parse("POST", "/work/v1/claim", &body).unwrap_err();
        assert_eq!(answer.status, 400, "{more}");
    }
}
