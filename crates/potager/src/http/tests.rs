//! Tests of the whole road from request to response, over a node that is a script: it records
//! what it was asked and answers from a list.

use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use bytes::Bytes;
use config::Settings;
use model::{Admin, Cell, Listing, Noun, Proof, Refusal, Reply, Request as Ask, Row, Tag};
use net::http::{Body, Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};

use replica::Actor;

use super::{HttpState, Node, NodeStats, handle};

/// `admin:pw`, `watch:pw` and `none:pw`, in base64.
const ADMIN: &str = "Basic YWRtaW46cHc=";
const WATCH: &str = "Basic d2F0Y2g6cHc=";
const NONE: &str = "Basic bm9uZTpwdw==";
/// `manager:pw`.
const MANAGER: &str = "Basic bWFuYWdlcjpwdw==";

#[derive(Clone, Default)]
struct Script {
    asked: RefCell<Vec<(Option<Bytes>, String)>>,
    actors: RefCell<Vec<Actor>>,
    refusal: Option<Refusal>,
    stats: NodeStats,
    /// A backup is being taken.
    is_backed_up: bool,
}

impl Node for Script {
    async fn ask(&self, actor: Actor, vhost: Option<Bytes>, request: Ask) -> Reply {
        self.actors.borrow_mut().push(actor);
        if let Ask::Authenticate(login) = &request {
            let is_known = login.proof == Proof::Password("pw".into()) && login.is_loopback;
            let tags: &[u8] = match login.user.as_ref() {
                b"admin" => b"administrator",
                b"watch" => b"monitoring",
                b"manager" => b"management",
                _ => b"",
            };
            let refused = || {
                Reply::Refused(Box::new(Refusal::AccessRefused { reason: "login failed".into() }))
            };
            let tags = Bytes::copy_from_slice(tags);
            return if is_known { Reply::Authenticated { tags } } else { refused() };
        }
        self.asked.borrow_mut().push((vhost, format!("{request:?}")));
        if let Some(refusal) = &self.refusal {
            return Reply::Refused(Box::new(refusal.clone()));
        }
        let Ask::Admin(admin) = request else { return Reply::Deleted { messages: 4 } };
        if let Admin::List(of) = *admin { Reply::Listing(listing(of)) } else { Reply::Done }
    }

    async fn work(&self, user: Bytes, mut call: gateway::Call) -> gateway::Answer {
        self.actors.borrow_mut().push(Actor::User(user));
        call.start(model::Millis(0));
        let failure = gateway::Failure::new(gateway::Code::Unavailable, "a script does no work");
        call.answer().unwrap_or_else(|| failure.into())
    }

    fn stats(&self) -> NodeStats {
        self.stats.clone()
    }

    fn backup(&self) -> Result<Body, replica::NoBackup> {
        if self.is_backed_up {
            Err(replica::NoBackup::Busy)
        } else {
            Ok(Bytes::from("backup").into())
        }
    }
}

fn text(text: &'static str) -> Cell {
    Cell::Text(Bytes::from_static(text.as_bytes()))
}

fn listing(of: Listing) -> Vec<Row> {
    let queue = |name, vhost, ready| {
        let mut arguments = Vec::new();
        model::table::put_field(&mut arguments, b"x-max-length", model::table::Value::Int(9));
        vec![
            ("name", text(name)),
            ("vhost", text(vhost)),
            ("durable", Cell::Flag(true)),
            ("messages_ready", Cell::Number(ready)),
            ("messages_unacknowledged", Cell::Number(1)),
            ("messages", Cell::Number(ready + 1)),
            ("arguments", Cell::Text(arguments.into())),
        ]
    };
    match of {
        Listing::Users => vec![vec![("name", text("admin")), ("tags", text("administrator,x"))]],
        Listing::Vhosts => vec![vec![("name", text("/"))], vec![("name", text("other"))]],
        Listing::Queues => vec![queue("a", "/", 3), queue("b", "/", 0), queue("a", "other", 7)],
        Listing::Bindings => {
            vec![vec![("vhost", text("/")), ("source", text("x")), ("routing_key", text(""))]]
        }
        Listing::Connections => vec![
            vec![("peer", text("127.0.0.1:0")), ("protocol", text("http"))],
            vec![
                ("peer", text("192.0.2.1:5000")),
                ("protocol", text("amqp")),
                ("paused", Cell::Flag(true)),
            ],
        ],
        Listing::Consumers => vec![vec![
            ("queue", text("a")),
            ("vhost", text("/")),
            ("tag", text("t1")),
            ("peer", text("192.0.2.1:5000")),
            ("channel", Cell::Number(3)),
        ]],
        Listing::Permissions => {
            let row = |user, vhost, configure| {
                vec![
                    ("user", text(user)),
                    ("vhost", text(vhost)),
                    ("configure", text(configure)),
                    ("write", text(".*")),
                    ("read", text("")),
                ]
            };
            vec![row("admin", "/", "a"), row("admin", "other", "b"), row("watch", "/", "c")]
        }
        Listing::TopicPermissions => {
            let row = |exchange| {
                vec![
                    ("user", text("admin")),
                    ("vhost", text("/")),
                    ("exchange", text(exchange)),
                    ("write", text("^w")),
                    ("read", text("^r")),
                ]
            };
            vec![row("amq.topic"), row("t")]
        }
        Listing::Exchanges => Vec::new(),
    }
}

struct Call {
    request: Request<Bytes>,
    peer: SocketAddr,
    script: Script,
}

fn call(method: Method, path: &str) -> Call {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost:15672")
        .header(header::AUTHORIZATION, ADMIN)
        .body(Bytes::new());
    let peer = "127.0.0.1:9".parse().unwrap();
    Call { request: request.unwrap(), peer, script: Script::default() }
}

fn get(path: &str) -> Call {
    call(Method::GET, path)
}

impl Call {
    fn header(mut self, name: header::HeaderName, value: &str) -> Self {
        self.request.headers_mut().insert(name, value.parse().unwrap());
        self
    }

    fn without(mut self, name: header::HeaderName) -> Self {
        self.request.headers_mut().remove(name);
        self
    }

    fn body(mut self, body: impl Into<Bytes>) -> Self {
        *self.request.body_mut() = body.into();
        self
    }

    fn refused(mut self, refusal: Refusal) -> Self {
        self.script.refusal = Some(refusal);
        self
    }

    fn run(self) -> (Response<Bytes>, Rc<HttpState<Script>>) {
        let state = Rc::new(HttpState::new(self.script, &Settings::default()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let response = runtime.block_on(async {
            let answer = handle(Rc::clone(&state), self.request, self.peer).await;
            let (head, body) = answer.into_parts();
            Response::from_parts(head, body.whole().await.unwrap_or_default())
        });
        (response, state)
    }

    fn backed_up(mut self) -> Self {
        self.script.is_backed_up = true;
        self
    }

    fn status(self) -> u16 {
        self.run().0.status().as_u16()
    }

    fn json(self) -> Value {
        let (response, _) = self.run();
        assert_eq!(response.status(), StatusCode::OK, "{response:?}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        serde_json::from_slice(response.body()).unwrap()
    }

    /// What the node was asked, besides logins.
    fn asked(self) -> Vec<(Option<Bytes>, String)> {
        self.run().1.node.asked.take()
    }
}

#[test]
fn health_and_metrics_need_no_login() {
    for path in ["/", "/health/live", "/health/ready", "/metrics", "/metrics/detailed"] {
        assert_eq!(get(path).without(header::AUTHORIZATION).status(), 200, "{path}");
    }
    let (response, _) = get("/metrics").run();
    let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    assert!(response.body().ends_with(b"# EOF\n"));
}

#[test]
fn a_stopping_server_is_alive_and_not_ready() {
    let mut ready = get("/health/ready");
    ready.script.stats.is_stopping = true;
    assert_eq!(ready.status(), 503);
    let mut live = get("/health/live");
    live.script.stats.is_stopping = true;
    assert_eq!(live.status(), 200);
    let mut short = get("/health/ready");
    short.script.stats.is_disk_alarm = true;
    assert_eq!(short.json(), json!({ "status": "ok", "alarms": ["disk"] }));
}

#[test]
fn the_api_needs_a_login() {
    let (response, state) = get("/api/queues").without(header::AUTHORIZATION).run();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Basic realm=\"Potager\"");
    assert!(state.node.asked.borrow().is_empty());
    for login in ["Basic", "Basic %%%", "Basic YWRtaW4=", "Bearer x", "Basic YWRtaW46bm8=", ""] {
        let status = get("/api/queues").header(header::AUTHORIZATION, login).status();
        assert_eq!(status, 401, "{login}");
    }
    let lower = ADMIN.replace("Basic", "basic");
    assert_eq!(get("/api/queues").header(header::AUTHORIZATION, &lower).status(), 200);
}

#[test]
fn a_login_from_elsewhere_is_said_to_be_from_elsewhere() {
    let mut far = get("/api/whoami");
    far.peer = "192.0.2.1:9".parse().unwrap();
    assert_eq!(far.status(), 401, "the script lets nobody in from there");
    let mut mapped = get("/api/whoami");
    mapped.peer = "[::ffff:127.0.0.1]:9".parse().unwrap();
    assert_eq!(mapped.status(), 200);
}

#[test]
fn tags_decide_what_a_user_may_do() {
    let as_user = |method: Method, path: &str, login: &str| {
        call(method, path).header(header::AUTHORIZATION, login).status()
    };
    assert_eq!(as_user(Method::GET, "/api/queues", WATCH), 200);
    for path in ["/api/queues", "/api/whoami", "/api/overview", "/api/permissions"] {
        assert_eq!(as_user(Method::GET, path, NONE), 401, "{path}");
    }
    let denied = call(Method::DELETE, "/api/users/x").header(header::AUTHORIZATION, NONE);
    assert!(denied.asked().is_empty(), "nothing was asked of the engine");
    // Everything else is the engine's to decide, so it must know in whose name it is asked.
    let calls = [
        (Method::GET, "/api/connections"),
        (Method::PUT, "/api/vhosts/v"),
        (Method::DELETE, "/api/users/x"),
        (Method::DELETE, "/api/queues/%2f/a"),
        (Method::DELETE, "/api/queues/%2f/a/contents"),
    ];
    for (method, path) in calls {
        let (_, state) = call(method, path).header(header::AUTHORIZATION, WATCH).run();
        let actors = state.node.actors.take();
        assert_eq!(actors.first(), Some(&Actor::Stranger), "{path}: the login");
        let others = actors.get(1..).unwrap_or_default();
        assert!(!others.is_empty(), "{path}");
        let watch = Actor::User("watch".into());
        assert!(others.iter().all(|actor| *actor == watch), "{path}: {others:?}");
    }
    let refused = get("/api/users").refused(Refusal::TagMissing(Tag::Administrator)).run().0;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let body: Value = serde_json::from_slice(refused.body()).unwrap();
    assert_eq!(body, json!({ "error": "not_authorized", "reason": "Not administrator user" }));
}

#[test]
fn permissions_read_and_change_as_in_the_management_api() {
    let all = get("/api/permissions").json();
    assert_eq!(all.as_array().unwrap().len(), 3);
    let row = json!({
        "user": "admin", "vhost": "other", "configure": "b", "write": ".*", "read": "",
    });
    assert_eq!(get("/api/permissions/other/admin").json(), row);
    assert_eq!(get("/api/permissions/other/watch").status(), 404);
    let users = |path: &str| get(path).json().as_array().unwrap().len();
    assert_eq!(users("/api/users/admin/permissions"), 2);
    assert_eq!(users("/api/vhosts/%2f/permissions"), 2);
    assert_eq!(users("/api/topic-permissions/%2f/admin"), 2);
    assert_eq!(get("/api/vhosts/none/permissions").status(), 404);
    assert_eq!(get("/api/users/none/topic-permissions").status(), 404);

    let put = |path: &str, body: &str| call(Method::PUT, path).body(body.to_owned());
    let three = r#"{"configure":"^a","write":"","read":".*"}"#;
    assert_eq!(put("/api/permissions/%2f/admin", three).status(), 204, "changed");
    assert_eq!(put("/api/permissions/%2f/other", three).status(), 201, "made");
    let (vhost, asked) = put("/api/permissions/v/u", three).asked().pop().unwrap();
    assert_eq!(vhost, None);
    let expected = "SetPermission { user: b\"u\", vhost: b\"v\", permission: Permission { \
                    configure: b\"^a\", write: b\"\", read: b\".*\" } }";
    assert!(asked.contains(expected), "{asked}");
    for body in ["", "{}", "[]", r#"{"configure":"","write":""}"#, r#"{"configure":1}"#] {
        assert_eq!(put("/api/permissions/%2f/admin", body).status(), 400, "{body}");
    }
    let topic = r#"{"exchange":"t","write":"^w","read":"^r"}"#;
    assert_eq!(put("/api/topic-permissions/%2f/admin", topic).status(), 204);
    assert_eq!(put("/api/topic-permissions/%2f/admin", three).status(), 400);
    let delete = |path: &str| call(Method::DELETE, path).status();
    assert_eq!(delete("/api/permissions/%2f/watch"), 204);
    assert_eq!(delete("/api/permissions/other/watch"), 404);
    assert_eq!(delete("/api/topic-permissions/%2f/admin"), 204);
    assert_eq!(delete("/api/topic-permissions/%2f/admin/t"), 204);
    for (method, path) in [
        (Method::POST, "/api/permissions"),
        (Method::PUT, "/api/users/admin/permissions"),
        (Method::POST, "/api/permissions/%2f/admin"),
    ] {
        assert_eq!(call(method, path).status(), 405, "{path}");
    }
}

#[test]
fn an_expression_that_is_none_is_named() {
    let (pattern, reason) = ("(".into(), "unclosed group".into());
    let refused = get("/api/users").refused(Refusal::InvalidPattern { pattern, reason }).run().0;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let body: Value = serde_json::from_slice(refused.body()).unwrap();
    assert_eq!(body["reason"], "'(' is no regular expression: unclosed group");
}

/// Somebody who may only manage hears nothing of other people's virtual hosts.
#[test]
fn a_vhost_that_one_may_not_see_and_one_that_is_not_there() {
    let manager = |path| get(path).header(header::AUTHORIZATION, MANAGER).status();
    assert_eq!(manager("/api/queues/%2f"), 200);
    assert_eq!(manager("/api/queues/none"), 401);
    assert_eq!(get("/api/queues/none").status(), 404);
    let overview = get("/api/overview").header(header::AUTHORIZATION, MANAGER).json();
    assert_eq!(overview.get("queue_totals"), None);
    assert!(get("/api/overview").json().get("queue_totals").is_some());
}

#[test]
fn on_loopback_only_local_names_are_answered() {
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1:15672", "127.9.9.9", "[::1]:15672"] {
        assert_eq!(get("/health/live").header(header::HOST, host).status(), 200, "{host}");
    }
    for host in
        ["evil.example", "evil.example:15672", "127.0.0.1.evil.example", "10.0.0.1", "[::2]"]
    {
        assert_eq!(get("/health/live").header(header::HOST, host).status(), 421, "{host}");
    }
}

#[test]
fn changes_from_another_site_are_refused() {
    let purge = || call(Method::DELETE, "/api/queues/%2f/a/contents");
    assert_eq!(purge().header(header::ORIGIN, "https://evil.example").status(), 403);
    assert_eq!(purge().header(header::ORIGIN, "null").status(), 403);
    assert_eq!(purge().header(header::ORIGIN, "http://localhost:15672").status(), 204);
    let (response, _) = get("/api/queues").header(header::ORIGIN, "https://evil.example").run();
    assert!(response.headers().keys().all(|name| !name.as_str().starts_with("access-control")));
}

#[test]
fn queues_look_as_in_the_management_api() {
    let queues = get("/api/queues").json();
    assert_eq!(queues.as_array().unwrap().len(), 3);
    let queue = get("/api/queues/%2f/a").json();
    for (field, value) in [
        ("name", json!("a")),
        ("vhost", json!("/")),
        ("durable", json!(true)),
        ("messages", json!(4)),
        ("messages_ready", json!(3)),
        ("messages_unacknowledged", json!(1)),
        ("arguments", json!({ "x-max-length": 9 })),
        ("state", json!("running")),
    ] {
        assert_eq!(queue[field], value, "{field}");
    }
    assert_eq!(get("/api/queues/other").json()[0]["messages_ready"], 7);
    assert_eq!(get("/api/queues/%2f/missing").status(), 404);
}

#[test]
fn pages_have_the_shape_that_tools_expect() {
    let page = get("/api/queues?page=2&page_size=2").json();
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert_eq!(page["page_count"], 2);
    assert_eq!(page["total_count"], 3);
    assert_eq!(get("/api/queues?page=9&page_size=2").json()["items"], json!([]));
    for query in ["page=0", "page=x", "page=1&page_size=0", "page=-1", "page=1&page_size=1e9"] {
        assert_eq!(get(&format!("/api/queues?{query}")).status(), 400, "{query}");
    }
}

#[test]
fn users_have_lists_of_tags() {
    assert_eq!(get("/api/users").json()[0]["tags"], json!(["administrator", "x"]));
    assert_eq!(get("/api/whoami").json(), json!({ "name": "admin", "tags": ["administrator"] }));
}

#[test]
fn connections_are_those_of_clients() {
    let expected = json!([{
        "name": "192.0.2.1:5000",
        "peer_host": "192.0.2.1",
        "peer_port": 5000,
        "protocol": "AMQP 0-9-1",
        "ssl": false,
        "state": "flow",
    }]);
    assert_eq!(get("/api/connections").json(), expected, "our own questions are not shown");
}

#[test]
fn consumers_and_bindings_are_nested_as_tools_expect() {
    let consumer = get("/api/consumers/%2f").json()[0].clone();
    assert_eq!(consumer["queue"], json!({ "name": "a", "vhost": "/" }));
    assert_eq!(consumer["consumer_tag"], "t1");
    assert_eq!(consumer["channel_details"]["number"], 3);
    assert_eq!(get("/api/bindings").json()[0]["properties_key"], "~");
}

#[test]
fn deleting_and_purging_ask_for_exactly_that() {
    let path = "/api/queues/%2f/a%20b?if-empty=true";
    assert_eq!(call(Method::DELETE, path).status(), 204);
    let asked = call(Method::DELETE, path).asked();
    let expected = r#"DeleteQueue { name: b"a b", if_unused: false, if_empty: true }"#;
    assert_eq!(asked, [(Some(Bytes::from("/")), expected.to_owned())]);
    let asked = call(Method::DELETE, "/api/queues/v/q/contents").asked();
    assert_eq!(asked, [(Some(Bytes::from("v")), r#"PurgeQueue(b"q")"#.to_owned())]);
    assert_eq!(call(Method::DELETE, "/api/vhosts/v").asked()[0].1, r#"Admin(DeleteVhost(b"v"))"#);
}

#[test]
fn a_new_user_is_created_and_a_known_one_changed() {
    let put = |path: &str, body: &'static str| call(Method::PUT, path).body(body);
    let body = r#"{"password":"secret","tags":"monitoring, x"}"#;
    assert_eq!(put("/api/users/ann", body).status(), 201);
    let asked = put("/api/users/ann", body).asked();
    assert!(asked[1].1.contains("argon2id"), "{asked:?}");
    assert!(asked[1].1.contains(r#"tags: b"monitoring,x""#), "{asked:?}");
    assert!(!asked[1].1.contains("secret"), "{asked:?}");
    let change = put("/api/users/admin", r#"{"password":"new"}"#);
    let asked = change.asked();
    assert!(asked[1].1.contains(r#"tags: b"administrator,x""#), "tags are kept: {asked:?}");
    assert_eq!(put("/api/users/admin", r#"{"password":"new"}"#).status(), 204);
}

#[test]
fn users_that_cannot_be_are_refused_before_anything_is_asked() {
    for body in [
        "",
        "[]",
        "{",
        r#"{"password":1}"#,
        r#"{"password":"x","tags":1}"#,
        r#"{"password":"x","tags":["a",1]}"#,
        r#"{"password":"x","tags":"<script>"}"#,
        r#"{"password_hash":"x","tags":""}"#,
    ] {
        let (response, state) = call(Method::PUT, "/api/users/ann").body(body).run();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body}");
        assert!(state.node.asked.borrow().is_empty(), "{body}");
    }
    assert_eq!(call(Method::PUT, "/api/users/ann").body("{}").status(), 400);
    assert_eq!(call(Method::PUT, "/api/users/ann").body(r#"{"password":""}"#).status(), 400);
    let deep = "[".repeat(100_000);
    assert_eq!(call(Method::PUT, "/api/users/ann").body(deep).status(), 400);
}

#[test]
fn names_that_cannot_be_are_refused() {
    let long = format!("/api/queues/%2f/{}", "x".repeat(256));
    for path in ["/api/users/%00", "/api/users/%ff", "/api/queues/%2f/a%0ab", "/api/x/%zz", &long] {
        assert_eq!(call(Method::DELETE, path).status(), 400, "{path}");
    }
}

#[test]
fn unknown_paths_and_methods() {
    for path in
        ["/x", "/api", "/api/nothing", "/api/queues/a/b/c", "/metrics/x", "/api/bindings/v/x"]
    {
        assert_eq!(get(path).status(), 404, "{path}");
    }
    for (method, path, allow) in [
        (Method::POST, "/metrics", "GET, HEAD"),
        (Method::POST, "/api/queues", "GET, HEAD"),
        (Method::PUT, "/api/queues/%2f/a", "GET, HEAD, DELETE"),
        (Method::POST, "/api/users/x", "GET, HEAD, PUT, DELETE"),
        (Method::DELETE, "/api/overview", "GET, HEAD"),
    ] {
        let (response, _) = call(method, path).run();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(response.headers()[header::ALLOW], allow, "{path}");
    }
}

#[test]
fn refusals_have_their_codes() {
    let queue = || Bytes::from("a");
    for (refusal, status) in [
        (Refusal::NotFound { noun: Noun::Queue, name: queue() }, 404),
        (Refusal::InUse { noun: Noun::Queue, name: queue() }, 400),
        (Refusal::NotEmpty { queue: queue() }, 400),
        (Refusal::Locked { queue: queue() }, 400),
        (Refusal::AccessRefused { reason: "no".into() }, 403),
        (Refusal::Unavailable { reason: "disk" }, 503),
        (Refusal::LimitReached { limit: "queues 5".into() }, 400),
    ] {
        let call = call(Method::DELETE, "/api/queues/%2f/a").refused(refusal.clone());
        let (response, _) = call.run();
        assert_eq!(response.status().as_u16(), status, "{refusal:?}");
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        assert!(body["error"].is_string() && body["reason"].is_string(), "{body}");
    }
}

#[test]
fn a_body_above_the_limit_is_refused() {
    let body = vec![b' '; net::http::BODY_BYTES_MAX + 1];
    assert_eq!(call(Method::PUT, "/api/users/x").body(body).status(), 413);
}

#[test]
fn browsers_may_not_guess_keep_or_frame_anything() {
    let (response, _) = get("/api/queues").run();
    assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'none'"), "{policy}");
}

#[test]
fn the_overview_names_what_tools_look_at() {
    let overview = get("/api/overview").json();
    for field in ["product_name", "rabbitmq_version", "object_totals", "queue_totals"] {
        assert!(!overview[field].is_null(), "{field}");
    }
}

#[test]
fn a_backup_is_for_administrators() {
    let (response, _) = get("/api/backup").run();
    assert_eq!((response.status(), response.body().as_ref()), (StatusCode::OK, &b"backup"[..]));
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    for other in [WATCH, NONE] {
        let status = get("/api/backup").header(header::AUTHORIZATION, other).status();
        assert!([401, 403].contains(&status), "{status}");
    }
    assert_eq!(call(Method::POST, "/api/backup").status(), 405);
    let (response, _) = get("/api/backup").backed_up().run();
    assert_eq!(response.status(), StatusCode::CONFLICT);
}

/// Status and code of a call of the work API, and in whose name it was carried out.
fn work(
    script: Script,
    request: Request<Bytes>,
    peer: &str,
) -> (StatusCode, String, Option<Actor>) {
    let state = Rc::new(HttpState::new(script, &Settings::default()));
    let (status, _, body) = block_on(async {
        let response = handle(Rc::clone(&state), request, peer.parse().unwrap()).await;
        let (head, body) = response.into_parts();
        (head.status, head.headers, body.whole().await.unwrap())
    });
    let body: Value = serde_json::from_slice(&body).unwrap();
    let code = body["error"]["code"].as_str().unwrap_or_default().to_owned();
    let actor = state.node.actors.borrow().last().cloned();
    (status, code, actor)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn work_request(headers: &[(header::HeaderName, &str)]) -> Request<Bytes> {
    let mut request = Request::new(Bytes::from("{\"queue\":\"q\",\"items\":[]}"));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = "/work/v1/publish".parse().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request
}

#[test]
fn the_work_api_lets_in_who_may() {
    const LOCAL: &str = "127.0.0.1:9";
    let user = |name: &'static str| Some(Actor::User(name.into()));
    let login = |value| work_request(&[(header::AUTHORIZATION, value)]);
    let ok = (StatusCode::OK, String::new());
    let out = (StatusCode::UNAUTHORIZED, "login".to_owned());

    let found = work(Script::default(), login(NONE), LOCAL);
    assert_eq!(found, (ok.0, ok.1.clone(), user("none")), "no tag is needed");
    for odd in ["Basic !", "Bearer x", "Bearer pt_a", "Bearer pt_a_wrong", "Odd x", "Bearer"] {
        let found = work(Script::default(), login(odd), LOCAL);
        assert_eq!((found.0, found.1), out, "{odd}");
    }
    let found = work(Script::default(), login("bearer pt_a.b-1_pw"), LOCAL);
    assert_eq!(found, (ok.0, ok.1, user("token-a.b-1")));

    let found = work(Script::default(), work_request(&[]), "10.0.0.1:9");
    assert_eq!((found.0, found.1), out, "only local programs come in without a login");
    for name in [header::HOST, header::ORIGIN] {
        let request = work_request(&[(header::AUTHORIZATION, NONE), (name, "http://evil.example")]);
        let found = work(Script::default(), request, LOCAL);
        assert_eq!((found.0, &*found.1), (StatusCode::FORBIDDEN, "not_permitted"));
    }
}
