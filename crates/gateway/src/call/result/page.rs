//! Pages of results: asked for in steps, so that an answer has a size that fits into memory
//! whatever the results' sizes are; what did not fit is the next page's.

use bytes::Bytes;
use model::limits::RESULTS_MAX;
use model::{Event, Lsn, Millis, RESULT_KEY_BYTES_MAX, Reply, Request as Question, Results};

use super::shown;
use crate::answer::{Answer, Object};
use crate::call::{Asks, Call, Task, Under, unhoped};
use crate::route::Request;
use crate::{ANSWER_BYTES_ENOUGH, ANSWER_BYTES_MAX, Failure, WAIT_S_MAX};

/// The ticket of every step; one at a time is out.
const STEP: usize = 0;
/// The ticket of what ends a wait.
const WITHDRAW: usize = 1;
/// Results of the first step, as long as nothing is known of their size.
const FIRST: usize = 64;
/// The media type of an export: one JSON object a line.
const LINES: &str = "application/x-ndjson";

/// Which results, in which shape.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    List,
    Changes,
    /// A piece of all of them; the next call goes on.
    Export,
}

#[allow(clippy::struct_excessive_bools, reason = "independent facts of one page")]
struct Page {
    shape: Shape,
    vhost: Bytes,
    prefix: Bytes,
    /// Of lists and exports: behind this key.
    after_key: Option<Bytes>,
    /// Of changes: behind this revision.
    after: Lsn,
    most: usize,
    wait_s: u32,
    deadline: Option<Millis>,
    is_waiting: bool,
    items: Vec<String>,
    bytes: usize,
    /// Of the step that is out: how many it asked for, and whether one of them did not fit.
    asked: usize,
    has_overflow: bool,
    /// What a list begins with, or what the last change was.
    revision: Lsn,
    has_gap: bool,
    is_more: bool,
    end: Option<Result<(), Failure>>,
    is_abandoned: bool,
}

impl Page {
    fn new(shape: Shape, vhost: Bytes, prefix: Bytes) -> Self {
        Self {
            shape,
            vhost,
            prefix,
            after_key: None,
            after: Lsn(0),
            most: usize::try_from(RESULTS_MAX).unwrap_or(usize::MAX),
            wait_s: 0,
            deadline: None,
            is_waiting: false,
            items: Vec::new(),
            bytes: 0,
            asked: 0,
            has_overflow: false,
            revision: Lsn(0),
            has_gap: false,
            is_more: false,
            end: None,
            is_abandoned: false,
        }
    }
}

/// `prefix` and `most`, which all pages know.
fn page(
    request: &Request<'_>,
    shape: Shape,
    more: &[&str],
) -> Result<(Page, crate::address::Query), Failure> {
    let query = request.query(&[&["prefix"], more].concat())?;
    let prefix = query.get("prefix").unwrap_or_default();
    if prefix.len() > RESULT_KEY_BYTES_MAX {
        return Err(Failure::bad(format!("'prefix' has at most {RESULT_KEY_BYTES_MAX} bytes")));
    }
    let vhost = query.get("vhost").unwrap_or(Bytes::from_static(b"/"));
    let mut page = Page::new(shape, vhost, prefix);
    let most = query.within("most", (1, RESULTS_MAX), RESULTS_MAX)?;
    page.most = usize::try_from(most).unwrap_or(usize::MAX);
    Ok((page, query))
}

fn call(page: Page) -> Call {
    Call::within(page.vhost.clone(), Under::OneOff, page)
}

pub(crate) fn read_list(request: &Request<'_>) -> Result<Call, Failure> {
    let (mut page, query) = page(request, Shape::List, &["after", "most"])?;
    page.after_key = query.get("after");
    if page.after_key.as_ref().is_some_and(|key| key.len() > RESULT_KEY_BYTES_MAX) {
        return Err(Failure::bad(format!("'after' has at most {RESULT_KEY_BYTES_MAX} bytes")));
    }
    Ok(call(page))
}

pub(crate) fn read_changes(request: &Request<'_>) -> Result<Call, Failure> {
    let (mut page, query) = page(request, Shape::Changes, &["after", "most", "wait_s"])?;
    page.after = Lsn(query.number("after")?.unwrap_or(0));
    page.revision = page.after;
    page.wait_s = query.within("wait_s", (0, WAIT_S_MAX), 0)?;
    Ok(call(page))
}

pub(crate) fn read_export(request: &Request<'_>) -> Result<Call, Failure> {
    let (page, _) = page(request, Shape::Export, &[])?;
    Ok(call(page))
}

impl Page {
    fn step(&mut self, asks: &mut Asks, waits: bool) {
        let wanted = self.most.saturating_sub(self.items.len());
        let fitting = match self.bytes.checked_div(self.items.len()) {
            None => FIRST,
            Some(each) => ANSWER_BYTES_ENOUGH.saturating_sub(self.bytes) / each.max(1),
        };
        self.asked = wanted.min(fitting.max(1));
        self.is_waiting = waits;
        let most = u32::try_from(self.asked).unwrap_or(RESULTS_MAX);
        let prefix = self.prefix.clone();
        let results = match self.shape {
            Shape::Changes => Results::Changes { prefix, after: self.after, most, waits },
            Shape::List | Shape::Export => {
                Results::List { prefix, after: self.after_key.clone(), most }
            }
        };
        asks.ask(STEP, Question::Results(Box::new(results)));
    }

    /// Takes one in, if it fits.
    fn add(&mut self, key: &Bytes, revision: Lsn, text: String) {
        let bytes = self.bytes.saturating_add(text.len());
        if self.has_overflow || (bytes > ANSWER_BYTES_MAX && !self.items.is_empty()) {
            self.has_overflow = true;
            return;
        }
        self.bytes = bytes;
        self.items.push(text);
        self.after_key = Some(Bytes::copy_from_slice(key));
        if self.shape == Shape::Changes {
            self.after = revision;
        }
    }

    fn on_step(&mut self, revision: Lsn, is_more: bool, has_gap: bool) {
        self.is_waiting = false;
        self.deadline = None;
        self.has_gap |= has_gap;
        self.is_more = is_more || self.has_overflow;
        match self.shape {
            // Behind an overflow, or when there is more, the last one that is in the page counts.
            Shape::Changes if self.has_overflow => self.revision = self.after,
            Shape::Changes => {
                self.revision = revision.max(self.after);
                self.after = self.revision;
            }
            // Changes since the first step are seen again rather than missed.
            Shape::List | Shape::Export if self.revision.0 == 0 => self.revision = revision,
            Shape::List | Shape::Export => {}
        }
    }

    fn is_enough(&self) -> bool {
        !self.is_more
            || self.has_overflow
            || self.is_abandoned
            || self.items.is_empty()
            || self.items.len() >= self.most
            || self.bytes >= ANSWER_BYTES_ENOUGH
    }

    fn lines(&mut self) -> Answer {
        let mut body = String::with_capacity(self.bytes + self.items.len());
        for item in self.items.drain(..) {
            body.push_str(&item);
            body.push('\n');
        }
        let mut answer = Answer::new(LINES, body);
        if self.is_more {
            let mut next = Self::new(Shape::Export, self.vhost.clone(), self.prefix.clone());
            next.after_key = self.after_key.take();
            answer.next = Some(Box::new(call(next)));
        }
        answer
    }
}

impl Task for Page {
    fn start(&mut self, asks: &mut Asks, now: Millis) {
        let waits = self.wait_s > 0;
        self.deadline = waits.then(|| Millis(now.0.saturating_add(u64::from(self.wait_s) * 1000)));
        self.step(asks, waits);
    }

    fn on_event(&mut self, _asks: &mut Asks, _ticket: usize, event: &Event<'_>) {
        match event {
            Event::Result { facts, result, .. } if !self.has_overflow => {
                self.add(&facts.key, facts.revision, shown(facts, result));
            }
            Event::ResultGone { key, revision, .. } => {
                let mut object = Object::new();
                object.bytes("key", key);
                object.number("revision", revision.0);
                object.flag("deleted", true);
                self.add(key, *revision, object.end());
            }
            _ => {}
        }
    }

    fn on_reply(&mut self, asks: &mut Asks, ticket: usize, reply: Reply) {
        if ticket != STEP {
            return;
        }
        match reply {
            Reply::Results { revision, is_more, has_gap } => {
                self.on_step(revision, is_more, has_gap);
                if self.is_enough() {
                    self.end = Some(Ok(()));
                } else {
                    self.step(asks, false);
                }
            }
            // A wait was given up.
            Reply::Empty => {
                self.is_waiting = false;
                self.end = Some(Ok(()));
            }
            other => {
                self.is_waiting = false;
                self.end = Some(Err(unhoped(&other)));
            }
        }
    }

    fn deadline(&self) -> Option<Millis> {
        self.deadline.filter(|_| self.is_waiting)
    }

    fn on_deadline(&mut self, asks: &mut Asks) {
        if std::mem::take(&mut self.is_waiting) {
            asks.ask(WITHDRAW, Question::Withdraw);
        }
    }

    fn answer(&mut self) -> Option<Answer> {
        if let Err(failure) = self.end.take()? {
            return Some(failure.into());
        }
        let mut object = Object::new();
        match self.shape {
            Shape::Export => return Some(self.lines()),
            Shape::List => object.list("results", self.items.drain(..)),
            Shape::Changes => object.list("changes", self.items.drain(..)),
        }
        object.number("revision", self.revision.0);
        object.flag("more", self.is_more);
        if self.shape == Shape::Changes {
            object.flag("gap", self.has_gap);
        }
        Some(Answer::json(object.end()))
    }

    fn abandon(&mut self, _asks: &mut Asks) {
        self.is_abandoned = true;
    }
}
