//! Tests of the table and its layers: every default fits, every message says what to do, the
//! reference page that is checked in is current.

use std::path::PathBuf;

use crate::*;

fn from_file(text: &str) -> Result<Resolved, Vec<Problem>> {
    let file = TextFile { path: "potager.toml".into(), text: text.into() };
    resolve(&Sources { file: Some(file), ..Sources::default() })
}

fn problems(text: &str) -> Vec<String> {
    from_file(text).unwrap_err().iter().map(ToString::to_string).collect()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.into(), value.into())
}

#[test]
fn every_default_is_readable_and_fits_its_field() {
    let mut settings = Settings::blank();
    for setting in SETTINGS {
        let value = setting.kind.read_text(setting.default).expect(setting.key);
        assert!((setting.put)(&mut settings, &value).is_some(), "{}", setting.key);
    }
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.limits, model::Limits::default());
}

#[test]
fn every_number_in_range_fits_its_field() {
    for setting in SETTINGS {
        if let Kind::Number { min, max } | Kind::Bytes { min, max } = setting.kind {
            for number in [min, max] {
                let value = setting.kind.read_text(&number.to_string()).expect(setting.key);
                let put = (setting.put)(&mut Settings::default(), &value);
                assert!(put.is_some(), "{} = {number}", setting.key);
            }
        }
    }
}

#[test]
fn every_word_of_every_choice_fits_its_field() {
    for setting in SETTINGS {
        if let Kind::Choice(words) = setting.kind {
            for word in words {
                let put = (setting.put)(&mut Settings::default(), &Value::Word(word));
                assert!(put.is_some(), "{} = {word}", setting.key);
            }
        }
    }
}

#[test]
fn keys_and_flags_are_unique_and_sections_stand_together() {
    let mut keys: Vec<_> = SETTINGS.iter().map(|s| s.key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), SETTINGS.len());
    let mut flags: Vec<_> = SETTINGS.iter().filter_map(|s| s.flag).collect();
    flags.sort_unstable();
    flags.dedup();
    assert_eq!(flags.len(), SETTINGS.iter().filter(|s| s.flag.is_some()).count());
    let mut sections: Vec<_> = SETTINGS.iter().map(Setting::section).collect();
    sections.dedup();
    let together = sections.len();
    sections.sort_unstable();
    sections.dedup();
    assert_eq!(together, sections.len(), "a section is split");
}

#[test]
fn a_setting_takes_one_level_of_sections() {
    assert!(SETTINGS.iter().all(|setting| setting.key.matches('.').count() <= 1));
}

#[test]
fn defaults_are_loopback_and_durable() {
    let settings = Settings::default();
    assert_eq!(settings.durability, Durability::Fsync);
    assert_eq!(settings.amqp.listen, Some("127.0.0.1:5672".parse().unwrap()));
    assert_eq!(settings.http.listen, Some("127.0.0.1:15672".parse().unwrap()));
    assert_eq!(settings.data_dir, PathBuf::from("./potager-data"));
    assert_eq!(settings.ready_file, None);
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let text = "data_dir = \"/a\"\n[amqp]\nlisten = \"127.0.0.1:1\"\nheartbeat_s = 10\n";
    let mut sources = Sources {
        file: Some(TextFile { path: "f.toml".into(), text: text.into() }),
        environment: vec![pair("POTAGER_AMQP__LISTEN", "127.0.0.1:2"), pair("POTAGER_X", "1")],
        flags: vec![pair("amqp.listen", "127.0.0.1:3"), pair("amqp.listen", "off")],
    };
    let resolved = resolve(&sources).unwrap();
    assert_eq!(resolved.settings.amqp.listen, None, "the last flag wins");
    assert_eq!(resolved.settings.amqp.heartbeat_s, 10);
    assert_eq!(resolved.settings.data_dir, PathBuf::from("/a"));
    assert_eq!(resolved.warnings.len(), 1);
    let origin = |key: &str| {
        let value = resolved.values.iter().find(|value| value.setting.key == key).unwrap();
        format!("{} from {}", value.value, value.origin)
    };
    assert_eq!(origin("amqp.listen"), "off from flag --amqp");
    assert_eq!(origin("amqp.heartbeat_s"), "10 from f.toml:4:15");
    assert_eq!(origin("durability"), "fsync from default");
    sources.flags.clear();
    let resolved = resolve(&sources).unwrap();
    assert_eq!(resolved.settings.amqp.listen, Some("127.0.0.1:2".parse().unwrap()));
}

#[test]
fn a_mistyped_key_is_refused_with_line_column_and_suggestion() {
    assert_eq!(
        problems("durability = \"os\"\n[amqp]\n  lisen = \"off\"\n"),
        ["potager.toml:3:3: unknown setting \"amqp.lisen\"; did you mean \"amqp.listen\"?"],
    );
    assert_eq!(
        problems("heartbeat_s = 3"),
        ["potager.toml:1:1: unknown setting \"heartbeat_s\"; did you mean \"amqp.heartbeat_s\"?"],
    );
    let nonsense = problems("zzzzzzzzzz = 3");
    assert!(nonsense[0].ends_with("`potager config default` lists all settings"), "{nonsense:?}");
}

#[test]
fn an_unknown_section_is_refused() {
    let found = problems("[redis]\nlisten = \"off\"\n");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("potager.toml:1:2: unknown section [redis]; there are amqp"));
    assert_eq!(problems("[amqp.deep]\nx = 1\n").len(), 1);
}

#[test]
fn all_problems_of_a_file_are_shown_at_once() {
    let found = problems("durability = \"maybe\"\n[amqp]\nheartbeat_s = \"60\"\nlisten = 5672\n");
    assert_eq!(
        found,
        [
            "potager.toml:1:14: durability: \"maybe\" is not accepted; expected fsync or os or \
             memory",
            "potager.toml:3:15: amqp.heartbeat_s: string is not accepted; expected a whole number, \
             0 to 65535",
            "potager.toml:4:10: amqp.listen: integer is not accepted; expected IP:PORT, or off",
        ]
    );
}

#[test]
fn broken_toml_has_a_place() {
    let found = problems("[amqp]\nlisten = \n");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("potager.toml:2:1"), "{found:?}");
    assert!(found[0].contains("not TOML"), "{found:?}");
}

#[test]
fn bytes_take_units_and_bounds_hold() {
    let kind = Kind::Bytes { min: 1024, max: 1 << 30 };
    for (text, bytes) in [("64 MiB", 64 << 20), ("1KiB", 1024), ("2048", 2048), ("1 GiB", 1 << 30)]
    {
        assert_eq!(kind.read_text(text), Ok(Value::Bytes(bytes)), "{text}");
    }
    for text in ["1023", "2 GiB", "-1", "1.5 MiB", "MiB", "", "18446744073709551615 GiB", "1 MB"] {
        assert!(kind.read_text(text).is_err(), "{text}");
    }
    assert_eq!(Value::Bytes(1536).to_string(), "1536");
    assert_eq!(Value::Bytes(0).to_string(), "0");
}

#[test]
fn negative_and_huge_numbers_are_refused_not_wrapped() {
    for text in ["-1", "65536", "0x1_0000", "18446744073709551616"] {
        assert_eq!(problems(&format!("[amqp]\nheartbeat_s = {text}\n")).len(), 1, "{text}");
    }
    let hex = from_file("[amqp]\nheartbeat_s = 0x10\n").unwrap();
    assert_eq!(hex.settings.amqp.heartbeat_s, 16);
}

#[test]
fn addresses() {
    for (text, address) in [("127.0.0.1:0", "127.0.0.1:0"), ("localhost:80", "127.0.0.1:80")] {
        let value = Value::Listen(Some(address.parse().unwrap()));
        assert_eq!(Kind::Listen.read_text(text), Ok(value));
    }
    assert_eq!(Kind::Listen.read_text("off"), Ok(Value::Listen(None)));
    assert!(Kind::Listen.read_text("[::1]:5672").is_ok());
    for text in ["", "5672", "127.0.0.1", "host.example:1", "127.0.0.1:65536", "OFF"] {
        assert!(Kind::Listen.read_text(text).is_err(), "{text}");
    }
}

#[test]
fn the_beanstalk_door_listens_at_an_address_or_at_a_file() {
    let listen = |text: &str| {
        let found = from_file(&format!("[beanstalk]\nlisten = {text:?}\n"));
        found.map(|resolved| resolved.settings.beanstalk.listen)
    };
    let default = Settings::default().beanstalk;
    assert_eq!(default.listen, Endpoint::At("127.0.0.1:11300".parse().unwrap()));
    assert_eq!((default.job_bytes_max, default.needs_login), (65_535, false));
    assert_eq!((default.user.as_str(), default.vhost.as_str()), ("guest", "/"));
    assert_eq!(listen("off"), Ok(Endpoint::Off));
    assert_eq!(listen("localhost:7"), Ok(Endpoint::At("127.0.0.1:7".parse().unwrap())));
    assert_eq!(listen("unix:/run/b.sock"), Ok(Endpoint::File("/run/b.sock".into())));
    for text in ["unix:", "/run/b.sock", "11300", "auto"] {
        assert!(listen(text).is_err(), "{text}");
    }
    assert_eq!(Value::SocketFile("/run/b.sock".into()).to_string(), "unix:/run/b.sock");
    assert!(Kind::Listen.read_text("unix:/run/b.sock").is_err(), "no other door takes a file");
}

#[test]
fn a_limit_of_0_is_none() {
    let text = "[beanstalk]\nqueue_length_max = 7\nqueue_bytes_max = 0\ndeliveries_max = 3\n";
    let limits = from_file(text).unwrap().settings.limits;
    assert_eq!(limits.job_queue_length_max, Some(7));
    assert_eq!(limits.job_queue_bytes_max, None);
    assert_eq!(limits.job_deliveries_max, Some(3));
}

#[test]
fn beanstalk_over_tls_wants_an_address_and_a_certificate() {
    let flags = |mode: &str| vec![pair("tls.mode", mode), pair("beanstalk.tls_listen", "[::1]:1")];
    let opened = |flags: Vec<_>| {
        resolve(&Sources { flags, ..Sources::default() }).unwrap().settings.beanstalks()
    };
    assert_eq!(opened(flags("files")), Some("[::1]:1".parse().unwrap()));
    assert_eq!(opened(flags("off")), None);
    assert_eq!(opened(vec![pair("tls.mode", "auto")]), None);
}

#[test]
fn names() {
    let longest = "n".repeat(255);
    for text in ["guest", "/", "a b", longest.as_str()] {
        assert!(Kind::Name.read_text(text).is_ok(), "{text}");
    }
    for text in ["", "a\nb", &"n".repeat(256)] {
        assert!(Kind::Name.read_text(text).is_err(), "{text}");
    }
}

#[test]
fn levels() {
    for text in ["info", "warn,net=debug", "off", "info,proto_amqp::codec=trace"] {
        assert!(Kind::Levels.read_text(text).is_ok(), "{text}");
    }
    for text in ["", "loud", "net=", "=info", "info,", "a b=info"] {
        assert!(Kind::Levels.read_text(text).is_err(), "{text}");
    }
}

#[test]
fn unknown_variables_warn_and_unknown_flags_fail() {
    let environment = vec![pair("POTAGER_AMQP__LISEN", "off"), pair("POTAGER_PORT", "tcp://1")];
    let warned = resolve(&Sources { environment, ..Sources::default() }).unwrap().warnings;
    assert_eq!(
        warned[0].to_string(),
        "environment POTAGER_AMQP__LISEN: names no setting, ignored; did you mean \
         POTAGER_AMQP__LISTEN?",
    );
    assert_eq!(warned.len(), 2);
    let flags = vec![pair("amqp.hearbeat_s", "3")];
    let failed = resolve(&Sources { flags, ..Sources::default() }).unwrap_err();
    assert_eq!(
        failed[0].to_string(),
        "flag --set amqp.hearbeat_s=3: unknown setting \"amqp.hearbeat_s\"; did you mean \
         \"amqp.heartbeat_s\"?",
    );
}

#[test]
fn a_bad_variable_is_an_error_even_where_a_flag_wins() {
    let environment = vec![pair("POTAGER_DURABILITY", "maybe")];
    let flags = vec![pair("durability", "os")];
    let failed = resolve(&Sources { environment, flags, file: None }).unwrap_err();
    assert_eq!(
        failed[0].to_string(),
        "environment POTAGER_DURABILITY: \"maybe\" is not accepted; expected fsync or os or memory",
    );
}

#[test]
fn the_default_file_uncommented_gives_the_defaults() {
    let is_setting = |line: &str| line.starts_with('#') && !line.starts_with("# ");
    let file: Vec<_> = default_file()
        .lines()
        .map(|line| if is_setting(line) { line.replacen('#', "", 1) } else { line.to_owned() })
        .collect();
    let resolved = from_file(&file.join("\n")).unwrap();
    assert_eq!(resolved.settings, Settings::default());
    assert!(resolved.values.iter().all(|value| matches!(value.origin, Origin::Set(_))));
    assert!(from_file(&default_file()).is_ok(), "as printed it is valid too");
}

#[test]
fn the_reference_page_is_current() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/operate/settings.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, reference_page()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == reference_page(), "run `UPDATE=1 cargo test -p config` and commit the page");
}

#[test]
fn tls_opens_beside_the_plain_doors_unless_told_otherwise() {
    let doors = |pairs: &[(&str, &str)]| {
        let flags = pairs.iter().map(|(key, text)| pair(key, text)).collect();
        let settings = resolve(&Sources { flags, ..Sources::default() }).unwrap().settings;
        let text = |at: Option<std::net::SocketAddr>| at.map(|at| at.to_string());
        (text(settings.amqps()), text(settings.https()))
    };
    let at = |text: &str| Some(text.to_owned());
    assert_eq!(doors(&[]), (None, None));
    assert_eq!(doors(&[("tls.mode", "auto")]), (at("127.0.0.1:5671"), at("127.0.0.1:15671")));
    assert_eq!(
        doors(&[("tls.mode", "auto"), ("amqp.listen", "0.0.0.0:1"), ("http.tls_listen", "off")]),
        (at("0.0.0.0:5671"), None),
    );
    let given = ("amqp.tls_listen", "10.0.0.1:7");
    assert_eq!(doors(&[given]), (at("10.0.0.1:7"), None));
    assert_eq!(doors(&[given, ("amqp.listen", "off")]), (at("10.0.0.1:7"), None));
    assert_eq!(doors(&[given, ("tls.mode", "off")]), (None, None));
}

#[test]
fn a_running_server_takes_over_what_it_can_and_names_the_rest() {
    let mut running = from_file("[amqp]\nheartbeat_s = 10\n").unwrap();
    let next =
        from_file("data_dir = \"/elsewhere\"\n[amqp]\nheartbeat_s = 20\n[tls]\nkey_file = \"k\"\n");
    let changes = adopt(&mut running, &next.unwrap());
    assert_eq!(changes.applied, ["amqp.heartbeat_s", "tls.key_file"]);
    assert_eq!(changes.waiting, ["data_dir"]);
    assert_eq!(running.settings.amqp.heartbeat_s, 20);
    assert_eq!(running.settings.tls.key_file, Some("k".into()));
    assert_eq!(running.settings.data_dir, Settings::default().data_dir);
    let back = adopt(&mut running, &from_file("").unwrap());
    assert_eq!(back.applied, ["amqp.heartbeat_s", "tls.key_file"], "a line taken out is a change");
    assert_eq!(back.waiting, Vec::<&str>::new());
    assert_eq!(running.settings, Settings::default());
}
