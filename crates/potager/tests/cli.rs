//! The binary as a person or a script meets it: output, exit codes, messages. No server runs here;
//! what needs one is in `serve.rs` beside this file.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::process::{Command, Output};

fn potager(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_potager"))
        .args(arguments)
        .env_remove("POTAGER_CONFIG")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn nothing_and_nonsense_are_usage_errors() {
    for arguments in [&[][..], &["sow"], &["serve", "--sow"], &["publish", "x"]] {
        let output = potager(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(out(&output).is_empty(), "people's text goes to standard error");
        assert!(!err(&output).is_empty());
    }
    assert!(err(&potager(&["sevre"])).contains("serve"), "a similar command is suggested");
}

#[test]
fn a_configuration_file_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("potager.toml");
    let name = path.to_str().unwrap();
    std::fs::write(&path, "durability = \"os\"\n[amqp]\nheartbeat_s = 10\n").unwrap();
    let good = potager(&["check-config", name]);
    assert_eq!((code(&good), out(&good)), (0, format!("{name}: good\n")));

    std::fs::write(&path, "[amqp]\nheartbeet_s = 10\n").unwrap();
    let bad = potager(&["check-config", name]);
    assert_eq!(code(&bad), 2);
    assert!(err(&bad).contains("potager.toml:2:1"), "{}", err(&bad));
    assert!(err(&bad).contains("did you mean \"amqp.heartbeat_s\"?"), "{}", err(&bad));

    let json = potager(&["check-config", name, "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(
        (&json["problems"][0]["line"], &json["problems"][0]["column"]),
        (&2.into(), &1.into())
    );

    let missing = potager(&["check-config", "/nowhere/potager.toml"]);
    assert_eq!(code(&missing), 2);
    assert!(err(&missing).contains("potager config default"), "{}", err(&missing));
}

#[test]
fn a_wrong_setting_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let arguments = ["serve", "--data-dir", data.to_str().unwrap(), "--durability", "maybe"];
    let output = potager(&arguments);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("fsync or os or memory"), "{}", err(&output));
    assert!(!data.exists());
}

#[test]
fn explain_says_who_set_what() {
    let output = Command::new(env!("CARGO_BIN_EXE_potager"))
        .args(["config", "explain", "--json", "--amqp", "off", "--set", "amqp.channels_max=9"])
        .env("POTAGER_HTTP__LISTEN", "127.0.0.1:1")
        .output()
        .unwrap();
    let rows: Vec<serde_json::Value> =
        out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |key: &str| {
        let row = rows.iter().find(|row| row["key"] == key).unwrap();
        (row["value"].clone(), row["origin"].as_str().unwrap().to_owned())
    };
    assert_eq!(find("amqp.listen"), ("off".into(), "flag --amqp".to_owned()));
    let origin = "environment POTAGER_HTTP__LISTEN".to_owned();
    assert_eq!(find("http.listen"), ("127.0.0.1:1".into(), origin));
    assert_eq!(find("amqp.channels_max").0, 9);
    assert_eq!(find("log.segment_bytes"), ((64 << 20).into(), "default".to_owned()));
}

#[test]
fn the_default_file_passes_its_own_check() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("potager.toml");
    std::fs::write(&path, potager(&["config", "default"]).stdout).unwrap();
    assert_eq!(code(&potager(&["check-config", path.to_str().unwrap()])), 0);
}

#[test]
fn every_shell_has_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = potager(&["completions", shell]);
        assert_eq!(code(&output), 0);
        assert!(out(&output).contains("check-config"), "{shell}");
    }
}

#[test]
fn the_version_has_three_parts() {
    let json: serde_json::Value =
        serde_json::from_slice(&potager(&["version", "--json"]).stdout).unwrap();
    assert_eq!(json["version"].as_str().unwrap().split('.').count(), 3);
}

#[test]
fn no_colour_in_pipes() {
    for arguments in [&["config", "explain"][..], &["--help"], &["serve", "--help"]] {
        let output = potager(arguments);
        assert!(!output.stdout.contains(&0x1b), "{arguments:?}");
    }
}

#[test]
fn a_server_that_is_not_there_is_named_with_what_to_do() {
    // Port 1 of the loopback address: nobody listens there.
    let http = potager(&["queues", "--url", "http://127.0.0.1:1"]);
    assert_eq!(code(&http), 1);
    assert!(err(&http).contains("potager serve"), "{}", err(&http));
    let amqp = potager(&["get", "q", "--url", "amqp://127.0.0.1:1"]);
    assert_eq!(code(&amqp), 1);
    assert!(err(&amqp).contains("127.0.0.1:1"), "{}", err(&amqp));
}

#[test]
fn destroying_without_a_person_needs_yes() {
    let output = potager(&["vhosts", "delete", "x"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("--yes"), "{}", err(&output));
}

#[test]
fn a_data_directory_that_is_not_there_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("typo");
    let output = potager(&["users", "list", "--data-dir", data.to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("no data directory"), "{}", err(&output));
    assert!(!data.exists());
}

#[test]
fn passwords_are_not_taken_from_arguments() {
    for arguments in
        [&["users", "add", "ann", "--password", "x"][..], &["queues", "--password", "x"]]
    {
        assert_eq!(code(&potager(arguments)), 2, "{arguments:?}");
    }
}
