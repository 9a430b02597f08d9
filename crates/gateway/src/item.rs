//! Messages to publish, as they stand in Publish and in Complete. Called by those calls.

use bytes::Bytes;
use model::limits::NAME_BYTES_MAX;
use model::properties::{Builder, Property};
use model::{Enqueue, Op, Publish, PublishOptions, RANK, Ties};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::value::{Headers, Sent};
use crate::{Failure, fields, json};

/// Longest idempotency key in bytes.
pub(crate) const IDEMPOTENCY_BYTES_MAX: usize = 255;
/// Longest delay and longest time to live in seconds: some ten years.
const SECONDS_MAX: u32 = 315_576_000;

/// One message as it was sent; where it goes is said only in Complete.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fields<'a> {
    #[serde(default, borrow, deserialize_with = "json::present")]
    body: Option<&'a RawValue>,
    text: Option<String>,
    base64: Option<String>,
    content_type: Option<String>,
    key: Option<String>,
    #[serde(default)]
    headers: Headers,
    #[serde(default)]
    priority: u8,
    #[serde(default)]
    delay_s: u64,
    expires_s: Option<u64>,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) idempotency_s: Option<u64>,
    pub(crate) queue: Option<String>,
    pub(crate) exchange: Option<String>,
    pub(crate) routing_key: Option<String>,
}

/// What is the same wherever a message goes.
struct Parts {
    body: Bytes,
    properties: Bytes,
    has_headers: bool,
    priority: u8,
    delay_s: u32,
    expires_s: Option<u32>,
    idempotency: Option<Bytes>,
    idempotency_s: u32,
}

impl Fields<'_> {
    /// A job for a queue.
    ///
    /// # Errors
    /// A field that is not as it should be.
    pub(crate) fn into_job(self, queue: Bytes, whole: &Bytes) -> Result<Enqueue, Failure> {
        let parts = self.into_parts(whole)?;
        let ties = parts.idempotency.map(|key| {
            let idempotency_s = parts.idempotency_s;
            Box::new(Ties { idempotency: Some(key), idempotency_s, ..Ties::default() })
        });
        Ok(Enqueue {
            queue,
            body: parts.body,
            properties: parts.properties,
            rank: RANK - 256 * u32::from(parts.priority),
            delay_s: parts.delay_s,
            lease_s: 0,
            ties,
        })
    }

    /// A step of a commit: to the queue or exchange that it names.
    ///
    /// # Errors
    /// A field that is not as it should be.
    pub(crate) fn into_step(mut self, whole: &Bytes) -> Result<Op, Failure> {
        let place = (self.queue.take(), self.exchange.take(), self.routing_key.take());
        match place {
            (Some(queue), None, None) => {
                let queue = fields::queue(&queue)?;
                Ok(Op::Enqueue(Box::new(self.into_job(queue, whole)?)))
            }
            (None, Some(exchange), key) => {
                let exchange = fields::name("exchange", &exchange, NAME_BYTES_MAX)?;
                let key = key.unwrap_or_default();
                if key.len() > NAME_BYTES_MAX {
                    return Err(Failure::bad("'routing_key' must have at most 255 bytes"));
                }
                Ok(Op::Publish(self.into_message(exchange, key.into(), whole)?))
            }
            _ => Err(Failure::bad("either 'queue' or 'exchange' must say where it goes")),
        }
    }

    fn into_message(
        self,
        exchange: Bytes,
        routing_key: Bytes,
        whole: &Bytes,
    ) -> Result<Publish, Failure> {
        if self.delay_s > 0 || self.idempotency_key.is_some() {
            let text = "'delay_s' and 'idempotency_key' need a 'queue' instead of an 'exchange'";
            return Err(Failure::bad(text));
        }
        let parts = self.into_parts(whole)?;
        let options = PublishOptions {
            priority: parts.priority,
            expiration_ms: parts.expires_s.map(|seconds| u64::from(seconds) * 1000),
            has_headers: parts.has_headers,
            ..PublishOptions::default()
        };
        let Parts { body, properties, .. } = parts;
        Ok(Publish { exchange, routing_key, properties, body, options })
    }

    fn into_parts(self, whole: &Bytes) -> Result<Parts, Failure> {
        let Self { body, text, base64, content_type, .. } = self;
        let (body, kind) = Sent { body, text, base64, content_type }.take(whole)?;
        let seconds = |what, number| fields::within(what, number, (0, SECONDS_MAX));
        let expires_s = self.expires_s.map(|number| seconds("expires_s", number)).transpose()?;
        let idempotency = self.idempotency_key.as_deref();
        let named = |key| fields::name("idempotency_key", key, IDEMPOTENCY_BYTES_MAX);
        let idempotency = idempotency.map(named).transpose()?;
        let table = self.headers.into_table();
        let has_headers = table.is_some();
        let mut list =
            Builder::new().with(Property::ContentType, kind).with(Property::DeliveryMode, vec![2]);
        if let Some(table) = table {
            list = list.with(Property::Headers, table);
        }
        if self.priority > 0 {
            list = list.with(Property::Priority, vec![self.priority]);
        }
        if let Some(seconds) = expires_s {
            let text = (u64::from(seconds) * 1000).to_string();
            list = list.with(Property::Expiration, text.into_bytes());
        }
        if let Some(key) = &self.key {
            list = list.with(Property::MessageId, fields::name("key", key, NAME_BYTES_MAX)?);
        }
        Ok(Parts {
            body,
            properties: list.build(),
            has_headers,
            priority: self.priority,
            delay_s: seconds("delay_s", self.delay_s)?,
            expires_s,
            idempotency,
            idempotency_s: seconds("idempotency_s", self.idempotency_s.unwrap_or(0))?,
        })
    }
}

impl<'a> Fields<'a> {
    /// A message about which nothing but its value is said.
    pub(crate) fn of(sent: Sent<'a>) -> Self {
        let Sent { body, text, base64, content_type } = sent;
        Self {
            body,
            text,
            base64,
            content_type,
            key: None,
            headers: Headers::default(),
            priority: 0,
            delay_s: 0,
            expires_s: None,
            idempotency_key: None,
            idempotency_s: None,
            queue: None,
            exchange: None,
            routing_key: None,
        }
    }
}
