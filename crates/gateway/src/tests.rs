//! Whole calls over an engine that is a script: what a call asks, and what becomes of the answers.

mod claims;
mod hostile;
mod results;

use bytes::Bytes;
use model::{
    Delivery, Event, Idle, JobId, JobRef, MessageRef, Millis, Noun, Op, Output, QueueId, RANK,
    Refusal, Reply, Request, TakenFacts, Verb,
};
use serde_json::{Value, json};

use crate::{Answer, Ask, Call, Incoming, Under};

pub(super) const NOW: Millis = Millis(1_000_000);

pub(super) fn parse(method: &str, target: &str, body: &[u8]) -> Result<Call, Box<Answer>> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Call::parse(&Incoming { method, path, query, body: Bytes::copy_from_slice(body) })
}

/// A call of a path below `/work/v1`.
pub(super) fn call(method: &str, target: &str, body: &Value) -> Call {
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
    let parsed = parse(method, &format!("/work/v1/{target}"), &body);
    parsed.unwrap_or_else(|answer| panic!("{target}: {answer:?}"))
}

pub(super) fn refused(method: &str, target: &str, body: &[u8]) -> (u16, String) {
    match parse(method, target, body) {
        Ok(call) => panic!("{target}: {call:?}"),
        Err(answer) => {
            let code = body_of(&answer)["error"]["code"].as_str().unwrap().to_owned();
            (answer.status, code)
        }
    }
}

pub(super) fn body_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

/// The answer, as JSON, of a call that has all it asked for.
pub(super) fn end(call: &mut Call) -> Value {
    let answer = call.answer().unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    body_of(&answer)
}

pub(super) fn failure(call: &mut Call) -> (u16, String) {
    let answer = call.answer().unwrap();
    (answer.status, body_of(&answer)["error"]["code"].as_str().unwrap().to_owned())
}

pub(super) fn reply(call: &mut Call, ask: &Ask, reply: Reply) -> Vec<Ask> {
    call.on_output(Output::Reply { channel: 1, ticket: ask.ticket, reply })
}

pub(super) fn refuse(call: &mut Call, ask: &Ask, refusal: Refusal) -> Vec<Ask> {
    reply(call, ask, Reply::Refused(Box::new(refusal)))
}

pub(super) fn not_permitted() -> Refusal {
    let name = Bytes::from_static(b"q");
    Refusal::NotPermitted {
        user: name.clone(),
        verb: Verb::Write,
        noun: Noun::Queue,
        name,
        key: None,
    }
}

pub(super) const fn job(id: u64) -> JobRef {
    JobRef { queue: QueueId(3), id: JobId(id) }
}

/// The engine hands a job over.
pub(super) fn hand(call: &mut Call, ask: &Ask, id: u64, message: MessageRef<'_>) -> Vec<Ask> {
    let facts =
        TakenFacts { job: job(id), queue: Bytes::from_static(b"q"), attempt: 2, failures: 1 };
    let delivery = Delivery {
        channel: 2,
        tag: id,
        is_redelivered: false,
        returns: None,
        job: Some(JobId(id)),
        message,
    };
    let (ticket, published) = (ask.ticket, Millis(7));
    call.on_output(Output::Event(Event::Taken { ticket, facts: &facts, published, delivery }))
}

pub(super) fn taken(call: &mut Call, ask: &Ask, count: u32, idle: Idle) -> Vec<Ask> {
    reply(call, ask, Reply::Taken { count, idle })
}

#[test]
fn publish_asks_once_for_each_item_and_answers_in_order() {
    let items = json!([
        {"key": "row-17", "body": {"n": 1}, "headers": {"tenant": "a"}, "priority": 2},
        {"text": "x", "delay_s": 9, "idempotency_key": "mine", "idempotency_s": 5},
        {"base64": "?"},
        {"base64": "AP8=", "content_type": "image/png"},
    ]);
    let body = json!({"queue": "prompts", "items": items, "idempotency_key": "up"});
    let mut call = call("POST", "publish?vhost=v", &body);
    assert_eq!((call.under(), &call.vhost()[..]), (&Under::OneOff, &b"v"[..]));
    let asks = call.start(NOW);
    let jobs: Vec<_> = asks
        .iter()
        .map(|ask| if let Request::Enqueue(job) = &ask.request { job } else { panic!("{ask:?}") })
        .collect();
    assert_eq!(
        jobs.iter().map(|job| &job.body[..]).collect::<Vec<_>>(),
        [&b"{\"n\":1}"[..], b"x", b"\0\xff"]
    );
    assert_eq!((jobs[0].rank, jobs[1].rank, jobs[1].delay_s), (RANK - 512, RANK, 9));
    let list = model::Properties::parse(&jobs[0].properties).unwrap();
    assert_eq!(list.get(model::properties::Property::MessageId), Some(&b"row-17"[..]));
    assert_eq!((list.delivery_mode(), list.priority()), (Some(2), Some(2)));
    assert_eq!(list.header(b"tenant"), Some(model::table::Value::Text(b"a")));
    let keys = jobs.iter().map(|job| job.ties.clone().unwrap());
    let keys: Vec<_> = keys.map(|ties| (ties.idempotency.unwrap(), ties.idempotency_s)).collect();
    assert_eq!(keys, [("up/0".into(), 0), ("mine".into(), 5), ("up/3".into(), 0)]);

    reply(&mut call, &asks[2], Reply::Rejected);
    refuse(&mut call, &asks[1], not_permitted());
    assert!(call.answer().is_none());
    let done = Reply::Enqueued { job: JobId(8), queue: QueueId(3) };
    reply(&mut call, &asks[0], done);
    let answer = end(&mut call);
    assert_eq!(answer["accepted"], 1);
    assert_eq!(answer["items"][0], json!({"id": "3-8"}));
    let codes = (1..4).map(|at| answer["items"][at]["error"]["code"].clone());
    assert_eq!(codes.collect::<Vec<_>>(), ["not_permitted", "bad_request", "queue_full"]);
}

#[test]
fn home_made_agents_are_understood() {
    let body = json!({"rabbit": {"host": "x"}, "routing_key": "q", "durable": true,
        "message_list": ["{\"a\": 1}", {"b": 2}, null], "queue": "q"});
    let body = serde_json::to_vec(&body).unwrap();
    let mut call = parse("POST", "/send_workq_message/", &body).unwrap();
    let asks = call.start(NOW);
    let bodies = asks.iter().map(|ask| {
        let Request::Enqueue(job) = &ask.request else { panic!("{ask:?}") };
        job.body.clone()
    });
    assert_eq!(bodies.collect::<Vec<_>>(), ["{\"a\": 1}", "{\"b\":2}", "null"]);
    for ask in &asks {
        reply(&mut call, ask, Reply::Enqueued { job: JobId(1), queue: QueueId(1) });
    }
    assert_eq!(end(&mut call), json!({"status": "ok", "sent": 3}));
}

#[test]
fn complete_is_one_commit_for_each_item() {
    let body = json!({"worker": "w", "items": [
        {"id": "3-1", "attempt": 1, "result": {"key": "k", "body": null, "notes": {"m": 1}},
         "publish": [{"queue": "next", "text": "a"},
                     {"exchange": "x", "routing_key": "r", "text": "b", "expires_s": 2}]},
        {"id": "03-1", "attempt": 1},
        {"id": "3-2", "attempt": 1, "result": {"key": "k", "text": "", "policy": "last"}},
        {"id": "3-3", "odd": true},
        {"id": "3-4"},
        {"id": "3-5", "publish": [{"text": "nowhere"}]},
    ]});
    let mut call = call("POST", "complete", &body);
    let worker = Under::Worker { name: "w".into(), lease_s: 0 };
    assert_eq!(call.under(), &worker);
    let asks = call.start(NOW);
    let ops: Vec<_> = asks
        .iter()
        .map(|ask| if let Request::Commit(ops) = &ask.request { ops } else { panic!("{ask:?}") })
        .collect();
    assert_eq!(ops.len(), 3);
    let [Op::Finish(finished), Op::Store(stored), Op::Enqueue(next), Op::Publish(publish)] =
        &ops[0][..]
    else {
        panic!("{ops:?}")
    };
    assert_eq!(*finished, job(1));
    assert_eq!((&stored.key[..], &stored.value[..]), (&b"k"[..], &b"null"[..]));
    assert_eq!(&stored.notes[..], b"{\"m\":1}");
    assert_eq!(&next.queue[..], b"next");
    assert_eq!(publish.options.expiration_ms, Some(2000));
    reply(&mut call, &asks[0], Reply::Stored { is_stored: true });
    reply(&mut call, &asks[1], Reply::Stored { is_stored: false });
    refuse(&mut call, &asks[2], Refusal::UnknownJob { job: job(4) });
    let answer = end(&mut call);
    let of = |at: usize, what: &str| answer["items"][at][what].clone();
    assert_eq!(of(0, "outcome"), "done");
    assert_eq!(of(1, "error")["code"], "bad_request");
    assert_eq!((of(2, "id"), of(2, "outcome")), (json!("3-2"), json!("kept_first")));
    assert_eq!(of(3, "error")["code"], "bad_request");
    assert_eq!(of(4, "outcome"), "done_before");
    assert_eq!(of(5, "error")["code"], "bad_request");
}

#[test]
fn renew_names_what_is_held_and_what_is_lost() {
    let items = json!([{"id": "3-1", "attempt": 1}, {"id": "3-2", "attempt": 1}, {"id": "x"}]);
    let mut call = call("POST", "renew", &json!({"worker": "w", "lease_s": 30, "items": items}));
    assert_eq!(call.under(), &Under::Worker { name: "w".into(), lease_s: 30 });
    let asks = call.start(NOW);
    let Request::Renew { lease_s: 30, claims } = &asks[0].request else { panic!("{asks:?}") };
    assert_eq!(claims.len(), 2);
    let held = vec![model::Held { job: job(2), attempt: 4 }];
    reply(&mut call, &asks[0], Reply::Renewed(held));
    let answer = end(&mut call);
    assert_eq!(answer, json!({"held": [{"id": "3-2", "attempt": 4}], "lost": ["3-1", "x"]}));
}

#[test]
fn fail_and_release_say_what_became_of_each() {
    let long = "ä".repeat(2000);
    let body = json!({"worker": "w", "items": [
        {"id": "3-1", "attempt": 1, "class": long, "message": long, "final": true, "delay_s": 4},
        {"id": "3-2", "attempt": 1}, {"id": "3-3", "attempt": 1}, {"id": "3-4"}]});
    let mut call = call("POST", "fail", &body);
    let asks = call.start(NOW);
    let Request::GiveBack(back) = &asks[0].request else { panic!("{asks:?}") };
    let why = back.failure.as_ref().unwrap();
    assert!(why.is_final && back.delay_s == 4);
    assert_eq!((why.class.len(), why.message.len()), (64, 1024));
    reply(&mut call, &asks[0], Reply::Released { is_buried: true });
    reply(&mut call, &asks[1], Reply::Released { is_buried: false });
    reply(&mut call, &asks[2], Reply::Empty);
    let answer = end(&mut call);
    let outcomes = (0..3).map(|at| answer["items"][at]["outcome"].clone());
    assert_eq!(outcomes.collect::<Vec<_>>(), ["buried", "returned", "not_held"]);
    assert_eq!(answer["items"][3]["error"]["code"], "bad_request");

    let mut call = self::call("POST", "release", &json!({"worker": "w", "all": true}));
    let asks = call.start(NOW);
    assert!(call.answer().is_none());
    let held = vec![model::Held { job: job(2), attempt: 4 }];
    let backs = reply(&mut call, &asks[0], Reply::Renewed(held));
    let Request::GiveBack(back) = &backs[0].request else { panic!("{backs:?}") };
    assert!(back.failure.is_none());
    reply(&mut call, &backs[0], Reply::Released { is_buried: false });
    assert_eq!(end(&mut call), json!({"items": [{"id": "3-2", "outcome": "returned"}]}));
}

#[test]
fn queues_are_listed_without_those_that_may_not_be_seen() {
    let mut call = call("GET", "queues", &Value::Null);
    let asks = call.start(NOW);
    let asks = reply(&mut call, &asks[0], Reply::Names(vec!["a".into(), "b".into()]));
    refuse(&mut call, &asks[0], not_permitted());
    let facts = model::QueueFacts { name: "b".into(), ..model::QueueFacts::default() };
    reply(&mut call, &asks[1], Reply::QueueFacts(Box::new(facts)));
    let answer = end(&mut call);
    assert_eq!(answer["queues"].as_array().unwrap().len(), 1);
    assert_eq!(answer["queues"][0]["name"], "b");
    let mut call = self::call("POST", "queues/a%2Fb/retry", &Value::Null);
    let asks = call.start(NOW);
    let Request::Work(work) = &asks[0].request else { panic!("{asks:?}") };
    assert_eq!(**work, model::Work::Kick("a/b".into(), 1000));
    reply(&mut call, &asks[0], Reply::Kicked { count: 3 });
    assert_eq!(end(&mut call), json!({"ready": 3}));
}

#[test]
fn a_job_is_looked_at_before_anything_is_done_with_it() {
    let facts = model::JobFacts {
        id: JobId(8),
        queue: "q".into(),
        state: model::JobState::Buried,
        rank: 0,
        delay_s: 0,
        lease_s: 0,
        left_s: 0,
        claims: 4,
        timeouts: 1,
        releases: 0,
        buries: 1,
        kicks: 0,
        failures: 3,
        worker: Bytes::new(),
        attempts: vec![model::Attempt {
            worker: "w".into(),
            end: model::AttemptEnd::Failed,
            at: Millis(5),
            failure: model::Failure { class: "bad".into(), ..model::Failure::default() },
        }],
        now: NOW,
    };
    for (method, target) in [("GET", "jobs/3-8"), ("POST", "jobs/3-8/retry")] {
        let mut call = call(method, target, &Value::Null);
        let asks = call.start(NOW);
        assert!(matches!(asks[0].request, Request::Inspect(found) if found == job(8)));
        let (ticket, published) = (asks[0].ticket, Millis(1));
        let message = MessageRef { body: b"x", ..MessageRef::default() };
        let event = Event::Job { ticket, facts: &facts, published, message };
        let asks = call.on_output(Output::Event(event));
        if method == "GET" {
            let answer = end(&mut call);
            assert_eq!((&answer["state"], &answer["text"]), (&json!("buried"), &json!("x")));
            assert_eq!(answer["key"], "3-8", "the key of a job without one is its id");
            assert_eq!(answer["attempts"][0]["class"], "bad");
        } else {
            let kick = model::JobVerb::Kick;
            assert!(matches!(asks[0].request, Request::Job(JobId(8), verb) if verb == kick));
            reply(&mut call, &asks[0], Reply::Empty);
            assert_eq!(failure(&mut call), (409, "wrong_state".to_owned()));
        }
    }
    let mut call = call("GET", "jobs/3-8", &Value::Null);
    let asks = call.start(NOW);
    reply(&mut call, &asks[0], Reply::Empty);
    assert_eq!(failure(&mut call), (404, "not_found".to_owned()));
}

#[test]
fn the_page_for_machines_knows_every_path_and_field() {
    let page: Value = serde_json::from_str(crate::openapi::PAGE).unwrap();
    let paths = page["paths"].as_object().unwrap();
    let mut known = 0;
    for route in crate::route::ROUTES {
        let parts: Vec<_> = route.path.iter().map(|part| part.replace('*', "{}")).collect();
        let wanted = format!("/work/v1/{}", parts.join("/"));
        let plain = |path: &str| {
            path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).fold(
                String::new(),
                |sum, part| {
                    if sum.is_empty() && part.is_empty() { sum } else { sum + "/" + part }
                },
            )
        };
        let found = paths.iter().find(|(path, _)| plain(path) == wanted);
        let (_, item) = found.unwrap_or_else(|| panic!("{wanted} is not in the page"));
        assert!(item.get(route.method.to_lowercase()).is_some(), "{} {wanted}", route.method);
        known += 1;
    }
    let operations = paths.values().map(|item| item.as_object().unwrap().len()).sum::<usize>();
    assert_eq!(operations, known + 1, "the page has what is no path");
    // Every field of every request is taken, with a value of its kind.
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            if schema.is_null() {
                continue;
            }
            let fields = sample(&page, schema);
            let target = path.replace("{name}", "q").replace("{key}", "k").replace("{id}", "3-1");
            for field in fields.as_object().unwrap().keys() {
                let body = serde_json::to_vec(&json!({ field: fields[field] })).unwrap();
                if let Err(answer) = parse(&method.to_uppercase(), &target, &body) {
                    let text = String::from_utf8_lossy(&answer.body).into_owned();
                    assert!(!text.contains("unknown field"), "{path} {field}: {text}");
                }
            }
        }
    }
}

/// A value that a schema describes.
fn sample(page: &Value, schema: &Value) -> Value {
    if let Some(place) = schema["$ref"].as_str() {
        let schema = page.pointer(place.trim_start_matches('#')).unwrap();
        return sample(page, schema);
    }
    let kind = if schema["type"].is_array() { &schema["type"][0] } else { &schema["type"] };
    match kind.as_str() {
        Some("object") if schema["properties"].is_object() => {
            let fields = schema["properties"].as_object().unwrap().iter();
            fields.map(|(name, of)| (name.clone(), sample(page, of))).collect()
        }
        Some("array") => json!([sample(page, &schema["items"])]),
        Some("string") => schema["enum"].get(0).cloned().unwrap_or_else(|| json!("text")),
        Some("integer") => json!(5),
        Some("boolean") => json!(true),
        Some("object") => json!({}),
        _ => Value::Null,
    }
}
