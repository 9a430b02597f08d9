//! Any bytes as a property list: parsing must not panic, a parsed list is rebuilt byte for byte,
//! and replacing or removing one property leaves all others as they were.

use model::Properties;
use model::properties::{Builder, Property};

use crate::source::Source;

const ALL: [Property; 14] = [
    Property::ContentType,
    Property::ContentEncoding,
    Property::Headers,
    Property::DeliveryMode,
    Property::Priority,
    Property::CorrelationId,
    Property::ReplyTo,
    Property::Expiration,
    Property::MessageId,
    Property::Timestamp,
    Property::Type,
    Property::UserId,
    Property::AppId,
    Property::ClusterId,
];

/// The first byte chooses the property that is replaced and removed.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    let chosen = source.pick(&ALL);
    let bytes = source.rest();
    let Ok(list) = Properties::parse(bytes) else { return };
    if !bytes.is_empty() {
        assert_eq!(&Builder::from_list(&list).build()[..], bytes);
    }
    let value: &[u8] = match chosen {
        Property::Headers => b"\x01kV",
        Property::DeliveryMode | Property::Priority => b"\x02",
        Property::Timestamp => &[0, 0, 0, 0, 0, 0, 0, 9],
        _ => b"text",
    };
    let with = Builder::from_list(&list).with(chosen, value.to_vec()).build();
    let without = Builder::from_list(&list).without(chosen).build();
    let with = Properties::parse(&with).expect("own list, one replaced");
    let without = Properties::parse(&without).expect("own list, one removed");
    assert_eq!(with.get(chosen), Some(value));
    assert!(!without.has(chosen));
    for other in ALL.into_iter().filter(|other| *other != chosen) {
        assert_eq!(with.get(other), list.get(other), "{other:?}");
        assert_eq!(without.get(other), list.get(other), "{other:?}");
    }
    let _ = (list.delivery_mode(), list.priority(), list.header(b"x-death"));
}
