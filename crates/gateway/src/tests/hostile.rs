//! What anybody may send: nothing of it panics, and each has its word. What is hostile about HTTP
//! itself is tried against the binary, in `conformance`.

use proptest::prelude::*;

use super::{NOW, parse, refused};
use crate::ITEMS_MAX;

const POSTS: [&str; 6] = ["publish", "claim", "renew", "complete", "fail", "release"];

fn codes(target: &str, body: &[u8]) -> (u16, String) {
    refused("POST", &format!("/work/v1/{target}"), body)
}

fn is(found: &(u16, String), code: &str) -> bool {
    *found == (400, code.to_owned())
}

#[test]
fn what_is_not_json_is_bad_json() {
    let deep = "[".repeat(100_000);
    let nested = format!("{{\"queue\":\"q\",\"items\":[{}{}]}}", "[".repeat(70), "]".repeat(70));
    let bodies: [&[u8]; 9] = [
        b"{",
        b"{\"a\":}",
        b"nonsense",
        b"\xff\xfe",
        b"{\"queue\":\"\\ud800\",\"items\":[]}",
        b"{} {}",
        b"{\"queue\": 1e400}",
        deep.as_bytes(),
        nested.as_bytes(),
    ];
    for target in POSTS {
        for body in bodies {
            let found = codes(target, body);
            let shown = String::from_utf8_lossy(body.get(..40).unwrap_or(body)).into_owned();
            assert!(found.0 == 400, "{target} {shown} {found:?}");
        }
        assert!(is(&codes(target, deep.as_bytes()), "bad_json"));
        assert!(is(&codes(target, nested.as_bytes()), "bad_json"));
    }
}

#[test]
fn what_is_not_expected_is_a_bad_request() {
    let bodies: [&str; 9] = [
        "",
        "[]",
        "null",
        "1",
        "{\"queue\":\"q\",\"queue\":\"q\",\"items\":[]}",
        "{\"queue\":1,\"items\":[]}",
        "{\"queue\":\"q\",\"items\":{}}",
        "{\"queue\":\"q\",\"items\":[],\"odd\":1}",
        "{\"queue\":\"q\\u0000\",\"items\":[]}",
    ];
    for body in bodies {
        let found = codes("publish", body.as_bytes());
        assert!(is(&found, "bad_request"), "{body} {found:?}");
    }
}

#[test]
fn a_list_has_a_limit_and_one_wrong_item_harms_no_other() {
    let items = |count: usize| vec!["{\"text\":\"x\"}"; count].join(",");
    let body = |items: String| format!("{{\"queue\":\"q\",\"items\":[{items}]}}").into_bytes();
    assert!(is(&codes("publish", &body(items(ITEMS_MAX + 1))), "bad_request"));
    assert!(is(&codes("publish", &body(vec!["1"; 1_000_000].join(","))), "bad_request"));
    let mixed = items(ITEMS_MAX - 1) + ",{\"priority\":256}";
    let mut call = parse("POST", "/work/v1/publish", &body(mixed)).unwrap();
    assert_eq!(call.start(NOW).len(), ITEMS_MAX - 1);
}

#[test]
fn items_that_are_odd_are_refused_alone() {
    for item in [
        "1",
        "null",
        "[]",
        "{}",
        r#"{"body":1,"text":"x"}"#,
        r#"{"text":null}"#,
        r#"{"text":"x","priority":-1}"#,
        r#"{"text":"x","priority":256}"#,
        r#"{"text":"x","delay_s":-1}"#,
        r#"{"text":"x","delay_s":1.5}"#,
        r#"{"text":"x","delay_s":99999999999}"#,
        r#"{"text":"x","expires_s":1e400}"#,
        r#"{"text":"x","text":"y"}"#,
        r#"{"base64":"a"}"#,
        r#"{"text":"x","headers":{"a":[]}}"#,
        r#"{"text":"x","headers":{"a":1,"a":2}}"#,
        r#"{"text":"x","key":""}"#,
        r#"{"text":"x","key":"a\nb"}"#,
        r#"{"text":"x","content_type":"a\r\nb: c"}"#,
        r#"{"text":"x","queue":"other"}"#,
        r#"{"text":"x","oops":1}"#,
        r#"{"text":"x","idempotency_key":""}"#,
        r#"{"body":1,"content_type":""}"#,
    ] {
        let body = format!("{{\"queue\":\"q\",\"items\":[{item}]}}");
        let mut call = parse("POST", "/work/v1/publish", body.as_bytes()).unwrap();
        assert!(call.start(NOW).is_empty(), "{item}");
        let answer = super::end(&mut call);
        assert_eq!(answer["items"][0]["error"]["code"], "bad_request", "{item}");
    }
}

#[test]
fn numbers_of_a_body_stay_as_they_are() {
    let text = r#"[1e400, 12345678901234567890123, 1.10, -0, "\u00e4"]"#;
    let body = format!("{{\"queue\":\"q\",\"items\":[{{\"body\":{text}}}]}}");
    let mut call = parse("POST", "/work/v1/publish", body.as_bytes()).unwrap();
    let asks = call.start(NOW);
    let model::Request::Enqueue(job) = &asks[0].request else { panic!("{asks:?}") };
    assert_eq!(job.body, text);
}

#[test]
fn paths_and_methods_are_known_or_not() {
    for path in [
        "/work",
        "/work/",
        "/work/v2/publish",
        "/work/v1",
        "/work/v1/nothing",
        "/work/v1/jobs",
        "/work/v1/jobs/",
        "/work/v1/jobs/1/2/3",
        "/work/v1/..%2fqueues",
        "/work/v1/jobs/abc",
        "/work/v1/jobs/3-01",
        "/work/v1/jobs/3-%00",
        "/work/v1/jobs/-",
        "/work/v1/jobs/99999999999999999999-1",
    ] {
        assert_eq!(refused("GET", path, b"").0, 404, "{path}");
    }
    for (method, path) in [
        ("GET", "/work/v1/publish"),
        ("PATCH", "/work/v1/jobs/3-1"),
        ("POST", "/work/v1/results"),
        ("DELETE", "/work/v1/queues/q"),
        ("GET", "/send_workq_message/"),
        ("POST", "/work/v1/openapi.json"),
    ] {
        assert_eq!(refused(method, path, b""), (405, "method_not_allowed".to_owned()), "{path}");
    }
    for target in [
        "/work/v1/results/%",
        "/work/v1/results?odd=1",
        "/work/v1/results?most=0",
        "/work/v1/results?most=1001",
        "/work/v1/changes?after=-1",
        "/work/v1/changes?wait_s=61",
        "/work/v1/changes?after=18446744073709551616",
        "/work/v1/results/k?raw=2",
        "/work/v1/queues?vhost=%zz",
        "/work/v1/queues?vhost=a&vhost=b",
    ] {
        assert_eq!(refused("GET", target, b"").0, 400, "{target}");
    }
    let long = format!("/work/v1/results/{}", "k".repeat(513));
    assert_eq!(refused("GET", &long, b"").0, 404);
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        Just("1e400".to_owned()),
        Just("\"3-1\"".to_owned()),
        "[a-z\\\\\"u0-9]{0,6}".prop_map(|text| format!("\"{text}\"")),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let names = prop::sample::select(vec![
            "worker", "queues", "queue", "items", "id", "attempt", "result", "publish", "key",
            "body", "text", "base64", "headers", "notes", "policy", "most", "wait_s", "all",
        ]);
        let pair = (names, inner.clone()).prop_map(|(name, value)| format!("\"{name}\":{value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(pair, 0..6).prop_map(|items| format!("{{{}}}", items.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_panics(target in prop::sample::select(POSTS.to_vec()), body in json()) {
        if let Ok(mut call) = parse("POST", &format!("/work/v1/{target}"), body.as_bytes()) {
            call.start(NOW);
            call.answer();
            call.abandon();
        }
    }

    #[test]
    fn no_bytes_panic(
        method in prop::sample::select(vec!["GET", "PUT", "POST", "DELETE", ""]),
        target in "/(work/v1/)?(jobs|results|queues|changes|publish)?/?[%a-z0-9?&=/.+]{0,20}",
        body in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        if let Ok(mut call) = parse(method, &target, &body) {
            call.start(NOW);
            call.answer();
        }
    }
}
