//! A message's property list as clients send it -> what the engine must know of it, and the few
//! changes the door makes: BCC stripped, reply-to made private, a delivery count shown.
//! Called once per publish; the frequent short lists never reach the general reader.

use bytes::Bytes;
use model::{
    Properties, Publish, PublishOptions,
    limits::{EXTRA_KEYS_MAX, NAME_BYTES_MAX},
    properties::{Builder, Property},
    table::{self, Value},
};

use super::{Code, Failure, arguments::kind_name, precondition, printable};

/// The pseudo queue that stands for "answer to me", and the front of every private address.
pub(crate) const REPLY_TO: &[u8] = b"amq.rabbitmq.reply-to";

/// Longest `expiration`. Source: observed, `RabbitMQ` 3.10.8 (ten years).
const EXPIRATION_MS_MAX: u64 = 315_360_000_000;
/// Longest `x-delay`: 2^32 - 1 ms, some 49 days.
const DELAY_MS_MAX: u64 = 0xFFFF_FFFF;

/// Whether nothing stands in this list but delivery-mode, as most fast publishers send it: then
/// there is nothing to check and nothing to read.
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    matches!(bytes, [0, 0] | [0x10, 0, _])
}

/// Checks a message's property list, sets the message's options from it and strips what must not
/// travel on. `user` is the only name that `user-id` may say; `None` for any. Says whether
/// `reply-to` names the pseudo queue, which the caller replaces by a private address.
pub(crate) fn read_properties(publish: &mut Publish, user: Option<&[u8]>) -> Result<bool, Failure> {
    let list = Properties::parse(&publish.properties).map_err(|error| {
        Failure::new(Code::SyntaxError, format!("malformed properties: {error}"))
    })?;
    let options = &mut publish.options;
    options.priority = list.priority().unwrap_or(0);
    if let Some(text) = list.get(Property::Expiration) {
        options.expiration_ms = Some(expiration_ms(text)?);
    }
    if let (Some(claimed), Some(user)) = (list.get(Property::UserId), user)
        && claimed != user
    {
        return Err(precondition(format!(
            "user_id property set to '{}' but authenticated user was '{}'",
            printable(claimed),
            printable(user)
        )));
    }
    let wants_reply_address = list.get(Property::ReplyTo) == Some(REPLY_TO);
    if let Some(headers) = list.headers() {
        options.has_headers = !headers.is_empty();
        if read_headers(headers, options)? {
            publish.properties = without_bcc(&list, headers);
        }
    }
    Ok(wants_reply_address)
}

/// Reads the headers that the broker itself obeys; says whether there is a BCC header.
fn read_headers(headers: &[u8], options: &mut PublishOptions) -> Result<bool, Failure> {
    let mut keys = Vec::new();
    let mut has_bcc = false;
    for (header, value) in table::fields(headers) {
        match header {
            b"CC" => extra_keys("CC", &value, &mut keys)?,
            b"BCC" => {
                has_bcc = true;
                extra_keys("BCC", &value, &mut keys)?;
            }
            b"x-delay" => options.delay_ms = delay_ms(&value),
            _ => {}
        }
    }
    if !keys.is_empty() {
        options.extra_keys = Some(Box::new(keys));
    }
    Ok(has_bcc)
}

/// Appends the routing keys of a CC or BCC header; entries that are not strings are skipped.
/// Source: observed, `RabbitMQ` 3.10.8.
fn extra_keys(header: &str, value: &Value<'_>, keys: &mut Vec<Bytes>) -> Result<(), Failure> {
    let Value::Array(array) = *value else {
        return Err(precondition(format!(
            "invalid message: {{unacceptable_type_in_header,\"{header}\",{}}}",
            kind_name(value)
        )));
    };
    for key in table::items(array).filter_map(|item| item.as_text()) {
        if key.len() > NAME_BYTES_MAX {
            return Err(precondition(format!(
                "routing key in '{header}' header is longer than {NAME_BYTES_MAX} bytes"
            )));
        }
        if keys.len() >= EXTRA_KEYS_MAX {
            return Err(precondition(format!(
                "more than {EXTRA_KEYS_MAX} routing keys in CC and BCC headers"
            )));
        }
        keys.push(Bytes::copy_from_slice(key));
    }
    Ok(())
}

/// `x-delay`: no delay when it is not a positive number, the longest one when it is too large.
fn delay_ms(value: &Value<'_>) -> Option<u64> {
    let number = value.as_integer().or_else(|| {
        let text = value.as_text()?;
        std::str::from_utf8(text).ok()?.parse().ok()
    })?;
    u64::try_from(number).ok().filter(|delay| *delay > 0).map(|delay| delay.min(DELAY_MS_MAX))
}

/// `expiration`: a decimal number. Source of the texts: observed, `RabbitMQ` 3.10.8.
fn expiration_ms(text: &[u8]) -> Result<u64, Failure> {
    let shown = printable(text);
    let invalid = |why: String| precondition(format!("invalid expiration '{shown}': {why}"));
    let is_negative = text.first() == Some(&b'-');
    let number = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    let count = number.iter().take_while(|letter| letter.is_ascii_digit()).count();
    let (digits, rest) = number.split_at_checked(count).unwrap_or((number, &[]));
    if digits.is_empty() {
        return Err(invalid("no_integer".to_owned()));
    }
    if !rest.is_empty() {
        return Err(invalid(format!("{{leftover_string,\"{}\"}}", printable(rest))));
    }
    if is_negative && digits.iter().any(|digit| *digit != b'0') {
        return Err(invalid(format!("{{value_negative,{shown}}}")));
    }
    match printable(digits).parse::<u64>() {
        Ok(number) if number <= EXPIRATION_MS_MAX => Ok(number),
        Ok(_) | Err(_) => Err(invalid(format!("{{value_too_large,{}}}", printable(digits)))),
    }
}

/// The list without its BCC header. Source: observed, `RabbitMQ` 3.10.8 (also in `basic.return`).
fn without_bcc(list: &Properties<'_>, headers: &[u8]) -> Bytes {
    let mut kept = Vec::with_capacity(headers.len());
    for (header, value) in table::fields(headers).filter(|(header, _)| *header != b"BCC") {
        table::put_field(&mut kept, header, value);
    }
    Builder::from_list(list).with(Property::Headers, kept).build()
}

/// The list with another `reply-to`.
pub(crate) fn with_reply_to(bytes: &[u8], address: Bytes) -> Bytes {
    let list = Properties::parse(bytes).unwrap_or_default();
    Builder::from_list(&list).with(Property::ReplyTo, address).build()
}

/// The list with the header `x-delivery-count` (tag `l`) set to `count`.
pub(crate) fn with_delivery_count(bytes: &[u8], count: u32) -> Bytes {
    let list = Properties::parse(bytes).unwrap_or_default();
    let mut headers = Vec::new();
    table::put_field(&mut headers, b"x-delivery-count", Value::Int(i64::from(count)));
    let old = list.headers().unwrap_or_default();
    for (header, value) in table::fields(old).filter(|(header, _)| *header != b"x-delivery-count") {
        table::put_field(&mut headers, header, value);
    }
    Builder::from_list(&list).with(Property::Headers, headers).build()
}
