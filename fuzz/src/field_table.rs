//! Any bytes as a field table: checking must not panic, and what was checked must be readable to
//! its end, nested tables and arrays included, and come back from the builder meaning the same.

use model::table::{self, Value};

/// The bytes are a table's content.
pub fn run(data: &[u8]) {
    if table::check(data).is_err() {
        // Reading what was not checked stops early, and does nothing else.
        let _ = table::fields(data).count();
        return;
    }
    let mut copy = Vec::new();
    for (name, value) in table::fields(data) {
        table::put_field(&mut copy, name, value);
        assert_eq!(table::find(data, name).is_some(), true);
        walk(value);
    }
    assert_eq!(table::check(&copy), Ok(()));
    assert_eq!(table::fields(data).count(), table::fields(&copy).count());
    for ((_, one), (_, other)) in table::fields(data).zip(table::fields(&copy)) {
        let is_number = matches!(one, Value::Uint(_) | Value::Float(_));
        assert!(is_number || one == other, "{one:?} became {other:?}");
    }
}

/// Walks to the bottom; `check` has limited the depth.
fn walk(value: Value<'_>) {
    match value {
        Value::Table(inner) => {
            assert_eq!(table::check(inner), Ok(()));
            table::fields(inner).for_each(|(_, value)| walk(value));
        }
        Value::Array(inner) => table::items(inner).for_each(walk),
        _ => {}
    }
}
