//! `model::Refusal` -> reply code and `RabbitMQ`'s words.
//! Source of every text: observed, `RabbitMQ` 3.10.8.

use model::{Noun, Refusal};

use super::{Code, Failure, precondition, printable};

/// What the peer is told when the engine says no. `vhost` is the name of the connection's one.
pub(crate) fn refusal(refusal: &Refusal, vhost: &[u8]) -> Failure {
    let vhost = printable(vhost);
    match refusal {
        Refusal::NotFound { noun, name } => not_found(*noun, &printable(name), &vhost),
        Refusal::Inequivalent { name, argument: "exclusive", .. } => locked(name, &vhost),
        Refusal::Inequivalent { noun, name, argument, received, current } => {
            let is_plain = received != "none" && current != "none";
            let (received, current) = (shown(received, is_plain), shown(current, is_plain));
            precondition(format!(
                "inequivalent arg '{argument}' for {} '{}' in vhost '{vhost}': \
                 received {received} but current is {current}",
                noun.word(),
                printable(name),
            ))
        }
        Refusal::Locked { queue } => locked(queue, &vhost),
        Refusal::InUse { noun, name } => {
            precondition(format!("{} '{}' in vhost '{vhost}' in use", noun.word(), printable(name)))
        }
        Refusal::NotEmpty { queue } => {
            precondition(format!("queue '{}' in vhost '{vhost}' not empty", printable(queue)))
        }
        Refusal::NotPermitted { user, noun, name, key, .. } => {
            let text = not_permitted((*noun, name), key.as_deref(), &vhost, user);
            Failure::new(Code::AccessRefused, text)
        }
        Refusal::AccessRefused { reason } => Failure::new(Code::AccessRefused, reason.clone()),
        Refusal::ExclusiveConsumer { queue } => Failure::new(
            Code::AccessRefused,
            format!("queue '{}' in vhost '{vhost}' in exclusive use", printable(queue)),
        ),
        Refusal::UnknownDelivery { tag } => precondition(format!("unknown delivery tag {tag}")),
        Refusal::UnknownJob { job } => precondition(format!("unknown job {job}")),
        Refusal::JobHeldElsewhere { job } => {
            precondition(format!("job {job} is with another client"))
        }
        Refusal::SingleActiveConsumer { queue } => Failure::new(
            Code::ResourceLocked,
            format!(
                "cannot obtain access to locked queue '{}' in vhost '{vhost}'. basic.get \
                 operations are not supported by queues with single active consumer",
                printable(queue)
            ),
        ),
        Refusal::LimitReached { limit } => {
            precondition(format!("limit reached in vhost '{vhost}': {limit}"))
        }
        Refusal::Unavailable { reason } => precondition(*reason),
        // Administration has no way in through this door.
        Refusal::TagMissing(tag) => {
            Failure::new(Code::AccessRefused, format!("the tag {} is missing", tag.word()))
        }
        Refusal::InvalidPattern { reason, .. } => precondition(reason.clone()),
        Refusal::NotOpen => Failure::new(Code::ChannelError, "expected 'channel.open'"),
    }
}

fn locked(queue: &[u8], vhost: &str) -> Failure {
    let text = format!(
        "cannot obtain exclusive access to locked queue '{}' in vhost '{vhost}'. It could be \
         originally declared on another connection or the exclusive property value does not match \
         that of the original declaration.",
        printable(queue)
    );
    Failure::new(Code::ResourceLocked, text)
}

fn not_permitted(
    (noun, name): (Noun, &[u8]),
    key: Option<&[u8]>,
    vhost: &str,
    user: &[u8],
) -> String {
    let (name, user) = (printable(name), printable(user));
    let object = match key {
        Some(key) => {
            let key = printable(key);
            format!("topic '{key}' in exchange '{name}' in vhost '{vhost}'")
        }
        None if noun == Noun::Vhost => format!("vhost '{name}'"),
        None => format!("{} '{name}' in vhost '{vhost}'", noun.word()),
    };
    format!("access to {object} refused for user '{user}'")
}

fn not_found(noun: Noun, name: &str, vhost: &str) -> Failure {
    match noun {
        Noun::Vhost => Failure::new(Code::NotAllowed, format!("vhost {name} not found")),
        Noun::Exchange | Noun::Queue | Noun::Binding | Noun::User | Noun::Result => {
            Failure::new(Code::NotFound, format!("no {} '{name}' in vhost '{vhost}'", noun.word()))
        }
    }
}

/// A compared value as `RabbitMQ` prints it: quoted when both sides have one, otherwise with its
/// type.
fn shown(value: &str, is_plain: bool) -> String {
    let value = value.trim_matches('\'');
    if is_plain {
        return format!("'{value}'");
    }
    if value == "none" {
        return value.to_owned();
    }
    let kind = match value.parse::<i64>() {
        Ok(number) if i32::try_from(number).is_ok() => "signedint",
        Ok(_) => "long",
        Err(_) if matches!(value, "true" | "false") => "bool",
        Err(_) => "longstr",
    };
    format!("the value '{value}' of type '{kind}'")
}
