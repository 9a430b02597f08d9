//! Tests of rows, items and outcomes over real files; batches with a server: `tests/batch.rs`.

use std::fs;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::outcome::{Failure, Outcome};
use super::read::{Row, Rows};
use super::scan::{name_of, scan};
use super::write::Writer;
use super::*;

fn recipe(template: Option<&str>, keys: Keys) -> Recipe {
    Recipe {
        template: template.map(|text| Template::parse(text).unwrap()),
        template_text: template.map(str::to_owned),
        system: None,
        model: Some("m".into()),
        fields: Map::new(),
        endpoint: None,
        keys,
    }
}

fn row(value: &Value) -> Row {
    Row { columns: value.as_object().unwrap().clone(), text: None }
}

fn file(dir: &tempfile::TempDir, name: &str, text: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

/// Each row with its line; a bad one as its complaint.
fn read(path: &std::path::Path) -> Vec<(u64, Result<Value, String>)> {
    let mut rows = Rows::open(path, Format::of(path, None).unwrap()).unwrap();
    let mut all = Vec::new();
    while let Some((line, row)) = rows.next().unwrap() {
        all.push((line, row.map(|row| Value::Object(row.columns)).map_err(|bad| bad.why)));
    }
    all
}

fn outcomes() -> Vec<Outcome> {
    let chat = r#"{"key":"b/1","notes":{"cost":0.5},
        "body":{"choices":[{"message":{"content":"=1+1"}}],"n":1.10}}"#;
    let failure =
        Failure { class: "too_long".into(), message: "-5 too \"long\"\n".into(), attempts: 3 };
    vec![
        Outcome::done("1".into(), chat).unwrap(),
        Outcome::done("2".into(), r#"{"key":"b/2","text":"-5.5"}"#).unwrap(),
        Outcome::done("=3".into(), r#"{"key":"b/3","base64":"AAE="}"#).unwrap(),
        Outcome::failed("4".into(), failure),
    ]
}

fn written(name: &str, is_raw: bool) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    let mut writer = Writer::create(&path, Format::of(&path, None).unwrap(), is_raw).unwrap();
    for outcome in outcomes() {
        writer.add(&outcome).unwrap();
    }
    assert!(!path.exists(), "half a file must not be there under its name");
    writer.finish().unwrap();
    (dir, path)
}

#[test]
fn a_template_makes_a_chat_request() {
    let mut recipe = recipe(Some("Say {word}"), Keys::Column("id".into()));
    recipe.system = Some("Be brief".into());
    recipe.fields.insert("temperature".into(), json!(0));
    let item = recipe.item(&row(&json!({"id": 7, "word": "hi"}))).unwrap();
    let body: Value = serde_json::from_str(item.body.get()).unwrap();
    let messages = json!([{"role": "system", "content": "Be brief"},
                          {"role": "user", "content": "Say hi"}]);
    assert_eq!(body, json!({"model": "m", "temperature": 0, "messages": messages}));
    assert_eq!(item.key, "7");
}

#[test]
fn a_row_without_template_stays_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "a.jsonl", b"{\"b\": 1.10,  \"a\":2}\n");
    let mut rows = Rows::open(&path, Format::Jsonl).unwrap();
    let row = rows.next().unwrap().unwrap().1.unwrap();
    let item = recipe(None, Keys::Content).item(&row).unwrap();
    assert_eq!(item.body.get(), "{\"b\": 1.10,  \"a\":2}");
}

#[test]
fn a_hash_of_the_content_is_the_same_in_every_run() {
    let key = |value: &Value| recipe(Some("{a}"), Keys::Content).item(&row(value)).unwrap().key;
    assert_eq!(key(&json!({"a": "x", "other": 1})), key(&json!({"a": "x", "other": 2})));
    assert_ne!(key(&json!({"a": "x"})), key(&json!({"a": "y"})));
    // A fixed value: another one would make every batch begin anew.
    assert_eq!(key(&json!({"a": "x"})), "c7d06023e44634e14a60bf65450b3089");
}

#[test]
fn keys_that_cannot_be_are_refused() {
    let recipe = recipe(None, Keys::Column("id".into()));
    for wrong in
        [json!({"id": ""}), json!({"id": "a\nb"}), json!({"id": "x".repeat(385)}), json!({"x": 1})]
    {
        assert!(recipe.item(&row(&wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn bad_lines_are_named_and_the_next_ones_read() {
    let dir = tempfile::tempdir().unwrap();
    let text = b"\xef\xbb\xbf{\"a\":1}\n\n{\"a\":\n[1]\n\xff\n{\"a\":2}";
    let rows = read(&file(&dir, "a.jsonl", text));
    let lines: Vec<(u64, bool)> = rows.iter().map(|(line, row)| (*line, row.is_ok())).collect();
    assert_eq!(lines, [(1, true), (3, false), (4, false), (5, false), (6, true)]);
    let rows = read(&file(&dir, "a.csv", b"a,b\n1,2\n3\n\"x\ny\",\"z\"\"\"\n"));
    assert_eq!(rows[0], (2, Ok(json!({"a": "1", "b": "2"}))));
    assert!(rows[1].0 == 3 && rows[1].1.is_err(), "{:?}", rows[1]);
    assert_eq!(rows[2], (4, Ok(json!({"a": "x\ny", "b": "z\""}))));
}

#[test]
fn equal_rows_are_one_item_and_one_key_has_one_meaning() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "a.jsonl", b"{\"k\":1,\"a\":1}\n{\"k\":1,\"a\":1}\n{\"k\":1,\"a\":2}\n");
    let found = scan(&path, Format::Jsonl, &recipe(None, Keys::Column("k".into()))).unwrap();
    assert_eq!((found.rows, found.slots.len(), found.bad), (3, 1, 1));
    let complaint = found.complaint(&path);
    assert!(complaint.contains("a.jsonl:3: another row has the same key"), "{complaint}");
    let found = scan(&path, Format::Jsonl, &recipe(None, Keys::Content)).unwrap();
    assert_eq!((found.slots.len(), found.bad), (2, 0));
}

#[test]
fn a_name_depends_on_all_that_decides_the_items() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "my file.jsonl", b"{\"a\":1}\n");
    let name = |template: &str| name_of(&path, &recipe(Some(template), Keys::Content)).unwrap();
    assert!(name("{a}").starts_with("my-file-") && check_name(&name("{a}")).is_ok());
    assert_eq!(name("{a}"), name("{a}"));
    assert_ne!(name("{a}"), name("{a}!"));
    for wrong in ["", "a/b", "a\nb", "potager.batch"] {
        assert!(check_name(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn json_lines_keep_results_as_they_were() {
    let (_dir, path) = written("out.jsonl", false);
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(text.contains("1.10"), "numbers keep their text");
    assert_eq!(
        (&lines[0]["id"], &lines[0]["text"], &lines[0]["error"]),
        (&json!("1"), &json!("=1+1"), &Value::Null)
    );
    assert_eq!(lines[2]["result"], json!({"base64": "AAE="}));
    assert_eq!(lines[3]["error"]["class"], "too_long");
}

/// Source: CSV injection, <https://owasp.org/www-community/attacks/CSV_Injection>.
#[test]
fn formulas_in_csv_are_text_and_numbers_stay() {
    let (_dir, path) = written("out.csv", false);
    let rows = read(&path);
    assert_eq!(rows.len(), 4);
    let cell = |row: usize, column: &str| rows[row].1.as_ref().unwrap()[column].clone();
    assert_eq!(cell(0, "text"), "'=1+1");
    assert_eq!(cell(1, "text"), "-5.5");
    assert_eq!(cell(2, "id"), "'=3");
    assert_eq!(cell(3, "message"), "'-5 too \"long\"\n");
    let (_dir, path) = written("out.csv", true);
    assert_eq!(read(&path)[0].1.as_ref().unwrap()["text"], "=1+1");
}

#[test]
fn parquet_is_read_as_it_was_written() {
    let (_dir, path) = written("out.parquet", false);
    let rows = read(&path);
    assert_eq!(rows.len(), 4);
    let first = rows[0].1.as_ref().unwrap();
    assert_eq!((&first["text"], &first["error"]), (&json!("=1+1"), &Value::Null));
    assert_eq!(first["notes"], r#"{"cost":0.5}"#);
    assert_eq!(rows[3].1.as_ref().unwrap()["error"], "too_long");
    assert!(Rows::open(&path, Format::Parquet).is_ok());
    let not = path.with_file_name("not.parquet");
    fs::write(&not, "PAR1 no PAR1").unwrap();
    assert!(Rows::open(&not, Format::Parquet).is_err());
}
