//! What a call becomes: an [`Answer`], or a [`Failure`] that is one, of the whole call or of one
//! item. [`Object`] writes JSON objects. Used by everything in this crate.

use bytes::Bytes;

use crate::Call;

/// The media type of nearly every answer.
pub(crate) const JSON: &str = "application/json";

/// An HTTP response without the things of HTTP.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Media type; what a client stored may be no valid header value.
    pub content_type: Bytes,
    /// The body, or its first piece.
    pub body: Bytes,
    /// Methods that would be right, for 405.
    pub allow: Option<&'static str>,
    /// A login may help.
    pub wants_login: bool,
    /// Try again after so many seconds.
    pub retry_after_s: Option<u32>,
    /// The answer goes on with the body of this call's answer.
    pub next: Option<Box<Call>>,
}

impl Answer {
    pub(crate) fn new(content_type: impl Into<Bytes>, body: impl Into<Bytes>) -> Self {
        Self {
            status: 200,
            content_type: content_type.into(),
            body: body.into(),
            allow: None,
            wants_login: false,
            retry_after_s: None,
            next: None,
        }
    }

    pub(crate) fn json(body: impl Into<Bytes>) -> Self {
        Self::new(JSON, body)
    }
}

/// Kinds of failures, each a word and a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Well-formed, but not what the API takes.
    BadRequest,
    /// Not JSON, or JSON that is not looked at.
    BadJson,
    /// Who is it?
    Login,
    /// They may not.
    NotPermitted,
    /// It is not there.
    NotFound,
    /// Another method would do.
    Method(&'static str),
    /// It is there, but not in a state in which this can be done.
    WrongState,
    /// More bytes than somebody takes.
    TooLarge,
    /// More calls that wait than somebody takes.
    TooManyWaiting,
    /// The queue takes no more.
    QueueFull,
    /// A named limit is reached.
    LimitReached,
    /// Later, perhaps.
    Unavailable,
}

impl Code {
    /// The word for machines.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::BadJson => "bad_json",
            Self::Login => "login",
            Self::NotPermitted => "not_permitted",
            Self::NotFound => "not_found",
            Self::Method(_) => "method_not_allowed",
            Self::WrongState => "wrong_state",
            Self::TooLarge => "too_large",
            Self::TooManyWaiting => "too_many_waiting",
            Self::QueueFull => "queue_full",
            Self::LimitReached => "limit_reached",
            Self::Unavailable => "unavailable",
        }
    }

    const fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::BadJson => 400,
            Self::Login => 401,
            Self::NotPermitted => 403,
            Self::NotFound => 404,
            Self::Method(_) => 405,
            Self::WrongState | Self::QueueFull | Self::LimitReached => 409,
            Self::TooLarge => 413,
            Self::TooManyWaiting => 429,
            Self::Unavailable => 503,
        }
    }
}

/// Why a call, or one item of it, is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For machines.
    pub code: Code,
    /// For people.
    pub message: String,
}

impl Failure {
    /// A failure in words.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(Code::BadRequest, message)
    }

    /// `{"error": {..}}`.
    pub(crate) fn object(&self) -> Object {
        let mut inside = Object::new();
        inside.text("code", self.code.word());
        inside.text("message", &self.message);
        let mut object = Object::new();
        object.object("error", inside);
        object
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        let code = failure.code;
        Self {
            status: code.status(),
            allow: if let Code::Method(allow) = code { Some(allow) } else { None },
            wants_login: code == Code::Login,
            retry_after_s: matches!(code, Code::Unavailable | Code::TooManyWaiting).then_some(1),
            ..Self::json(failure.object().end())
        }
    }
}

/// A JSON object while it is written.
#[derive(Debug)]
pub(crate) struct Object {
    out: String,
}

impl Object {
    pub(crate) fn new() -> Self {
        Self { out: "{".to_owned() }
    }

    fn name(&mut self, name: &str) {
        if self.out.len() > 1 {
            self.out.push(',');
        }
        self.out.push_str(&quoted(name));
        self.out.push(':');
    }

    /// Text that is JSON already.
    pub(crate) fn raw(&mut self, name: &str, json: &str) {
        self.name(name);
        self.out.push_str(json);
    }

    pub(crate) fn text(&mut self, name: &str, text: &str) {
        self.raw(name, &quoted(text));
    }

    /// Bytes that should be UTF-8; what is not is replaced.
    pub(crate) fn bytes(&mut self, name: &str, bytes: &[u8]) {
        self.text(name, &String::from_utf8_lossy(bytes));
    }

    pub(crate) fn number(&mut self, name: &str, number: impl Into<u64>) {
        self.raw(name, &number.into().to_string());
    }

    pub(crate) fn flag(&mut self, name: &str, is: bool) {
        self.raw(name, if is { "true" } else { "false" });
    }

    pub(crate) fn null(&mut self, name: &str) {
        self.raw(name, "null");
    }

    pub(crate) fn object(&mut self, name: &str, object: Self) {
        self.raw(name, &object.end());
    }

    /// A list of texts that are JSON already.
    pub(crate) fn list<T: AsRef<str>>(&mut self, name: &str, items: impl IntoIterator<Item = T>) {
        self.name(name);
        self.out.push('[');
        for (at, item) in items.into_iter().enumerate() {
            if at > 0 {
                self.out.push(',');
            }
            self.out.push_str(item.as_ref());
        }
        self.out.push(']');
    }

    pub(crate) fn end(mut self) -> String {
        self.out.push('}');
        self.out
    }
}

/// A JSON string. Writing one to memory cannot fail.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}
