//! Results: one, pages, changes, exports. Over a script that shows whatever the test wants, in any
//! size.

use bytes::Bytes;
use model::{Event, Lsn, Millis, Output, Reply, Request, ResultFacts, ResultRef, Results};
use serde_json::{Value, json};

use super::{NOW, call as open, end, failure, job, reply};
use crate::{Ask, Call};

fn asked(ask: &Ask) -> &Results {
    let Request::Results(results) = &ask.request else { panic!("{ask:?}") };
    results
}

fn show(call: &mut Call, ask: &Ask, (key, revision): (&str, u64), value: &[u8]) {
    let facts = ResultFacts {
        key: Bytes::copy_from_slice(key.as_bytes()),
        revision: Lsn(revision),
        stored: Millis(5),
        expires: None,
    };
    let result = ResultRef {
        job: Some(job(1)),
        worker: b"w",
        content_type: b"application/json",
        notes: b"{\"m\": 1}",
        value,
    };
    let event = Event::Result { ticket: ask.ticket, facts: &facts, result };
    assert!(call.on_output(Output::Event(event)).is_empty());
}

fn results(call: &mut Call, ask: &Ask, revision: u64, is_more: bool) -> Vec<Ask> {
    let revision = Lsn(revision);
    reply(call, ask, Reply::Results { revision, is_more, has_gap: false })
}

#[test]
fn one_result_is_shown_or_given_raw() {
    let mut call = open("GET", "results/a%2Fb", &Value::Null);
    let asks = call.start(NOW);
    assert_eq!(asked(&asks[0]), &Results::Get("a/b".into()));
    show(&mut call, &asks[0], ("a/b", 7), b"{\"t\":1}");
    let wanted = json!({"key": "a/b", "revision": 7, "stored_ms": 5, "expires_ms": null,
        "job": "3-1", "worker": "w", "notes": {"m": 1}, "body": {"t": 1},
        "content_type": "application/json"});
    assert_eq!(end(&mut call), wanted);

    let mut call = open("GET", "results/k?raw=1", &Value::Null);
    let asks = call.start(NOW);
    show(&mut call, &asks[0], ("k", 7), b"{\"t\":1}");
    let answer = call.answer().unwrap();
    assert_eq!(
        (&answer.content_type[..], &answer.body[..]),
        (&b"application/json"[..], &b"{\"t\":1}"[..])
    );

    let mut call = open("GET", "results/k", &Value::Null);
    let asks = call.start(NOW);
    reply(&mut call, &asks[0], Reply::Empty);
    assert_eq!(failure(&mut call), (404, "not_found".to_owned()));
}

#[test]
fn a_result_is_stored_and_forgotten() {
    let body = json!({"text": "x", "policy": "last", "ttl_s": 9, "notes": {"a": 1}});
    let mut call = open("PUT", "results/k", &body);
    let asks = call.start(NOW);
    let Results::Put(stored) = asked(&asks[0]) else { panic!("{asks:?}") };
    assert_eq!((stored.policy, stored.ttl_s), (model::Policy::LastWins, 9));
    reply(&mut call, &asks[0], Reply::Stored { is_stored: false });
    assert_eq!(end(&mut call), json!({"outcome": "kept_first"}));
    let mut call = open("DELETE", "results/k", &Value::Null);
    let asks = call.start(NOW);
    reply(&mut call, &asks[0], Reply::Done);
    assert_eq!(end(&mut call), json!({"outcome": "deleted"}));
}

#[test]
fn a_list_goes_on_until_the_page_is_full() {
    let mut call = open("GET", "results?prefix=a&after=a0&most=70", &Value::Null);
    let asks = call.start(NOW);
    let Results::List { after, most, .. } = asked(&asks[0]) else { panic!("{asks:?}") };
    assert_eq!((after.as_deref(), *most), (Some(&b"a0"[..]), 64));
    for at in 0..64 {
        show(&mut call, &asks[0], (&format!("a{at:02}"), at), b"1");
    }
    let rest = results(&mut call, &asks[0], 77, true);
    let Results::List { after, most, .. } = asked(&rest[0]) else { panic!("{rest:?}") };
    assert_eq!((after.as_deref(), *most), (Some(&b"a63"[..]), 6));
    show(&mut call, &rest[0], ("a64", 64), b"1");
    assert!(results(&mut call, &rest[0], 99, false).is_empty());
    let answer = end(&mut call);
    assert_eq!(answer["results"].as_array().unwrap().len(), 65);
    assert_eq!((&answer["revision"], &answer["more"]), (&json!(77), &json!(false)));
}

#[test]
fn changes_wait_and_end() {
    let mut call = open("GET", "changes?after=5&wait_s=3", &Value::Null);
    let asks = call.start(NOW);
    let Results::Changes { after: Lsn(5), waits: true, .. } = asked(&asks[0]) else {
        panic!("{asks:?}")
    };
    assert_eq!(call.deadline(), Some(Millis(NOW.0 + 3000)));
    let asks2 = call.on_deadline();
    assert!(matches!(asks2[0].request, Request::Withdraw));
    results(&mut call, &asks[0], 6, false);
    let wanted = json!({"changes": [], "revision": 6, "more": false, "gap": false});
    assert_eq!(end(&mut call), wanted);

    let mut call = open("GET", "changes", &Value::Null);
    let asks = call.start(NOW);
    let (ticket, key) = (asks[0].ticket, Bytes::from_static(b"k"));
    let gone = Event::ResultGone { ticket, key, revision: Lsn(8) };
    call.on_output(Output::Event(gone));
    results(&mut call, &asks[0], 9, false);
    let answer = end(&mut call);
    assert_eq!(answer["changes"][0], json!({"key": "k", "revision": 8, "deleted": true}));
    assert_eq!(answer["revision"], 9);
}

#[test]
fn changes_that_do_not_fit_are_the_next_page() {
    let mut call = open("GET", "changes", &Value::Null);
    let asks = call.start(NOW);
    let large = format!("\"{}\"", "x".repeat(9 << 20));
    for revision in 1..=3 {
        show(&mut call, &asks[0], (&format!("k{revision}"), revision), large.as_bytes());
    }
    assert!(results(&mut call, &asks[0], 50, false).is_empty());
    let answer = end(&mut call);
    assert_eq!(answer["changes"].as_array().unwrap().len(), 2);
    assert_eq!((&answer["revision"], &answer["more"]), (&json!(2), &json!(true)));
}

#[test]
fn an_export_is_lines_and_goes_on() {
    let mut call = open("GET", "export?prefix=a&vhost=v", &Value::Null);
    let asks = call.start(NOW);
    let large = format!("[\n\"{}\"\n]", "x".repeat(9 << 20));
    show(&mut call, &asks[0], ("a1", 1), large.as_bytes());
    assert!(results(&mut call, &asks[0], 50, true).is_empty());
    let answer = call.answer().unwrap();
    let text = std::str::from_utf8(&answer.body).unwrap();
    assert_eq!(text.lines().count(), 1);
    let mut next = answer.next.unwrap();
    assert_eq!(&next.vhost()[..], b"v");
    let asks = next.start(NOW);
    let Results::List { after, prefix, .. } = asked(&asks[0]) else { panic!("{asks:?}") };
    assert_eq!((after.as_deref(), &prefix[..]), (Some(&b"a1"[..]), &b"a"[..]));
    assert!(results(&mut next, &asks[0], 50, false).is_empty());
    let answer = next.answer().unwrap();
    assert!(answer.next.is_none() && answer.body.is_empty());
}
