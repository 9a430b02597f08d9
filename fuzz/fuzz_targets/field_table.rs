//! Any bytes as a field table and as a property list: checking must not panic, and what was
//! checked must be readable to its end and come back from the builder unchanged in meaning.

#![no_main]

use libfuzzer_sys::fuzz_target;
use model::Properties;
use model::properties::Builder;
use model::table::{self, Value};

fuzz_target!(|data: &[u8]| {
    if table::check(data).is_ok() {
        let mut copy = Vec::new();
        for (name, value) in table::fields(data) {
            table::put_field(&mut copy, name, value);
        }
        assert_eq!(table::check(&copy), Ok(()));
        assert_eq!(table::fields(data).count(), table::fields(&copy).count());
        for ((_, one), (_, other)) in table::fields(data).zip(table::fields(&copy)) {
            let is_number = matches!(one, Value::Uint(_) | Value::Float(_));
            assert!(is_number || one == other, "{one:?} became {other:?}");
        }
    }
    if let Ok(list) = Properties::parse(data) {
        let built = Builder::from_list(&list).build();
        if !data.is_empty() {
            assert_eq!(&built[..], data);
        }
    }
});
