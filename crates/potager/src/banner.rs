//! The first screen of `potager serve`: one line per listener on standard error, then what a
//! newcomer may type next. Plain lines, also when logs are JSON: scripts wait for them.

use std::{fmt::Write, net::SocketAddr, time::Duration};

use config::{Durability, Endpoint, Settings, TlsMode};

use crate::{commands::version::VERSION, output, serve::AUTHORITY};

/// Prints it, once all doors listen. `doors` are names (`amqp`, `http`) and bound addresses.
pub(crate) fn print(settings: &Settings, doors: &[(&'static str, Endpoint)], started: Duration) {
    output::note(text(settings, doors, started).trim_end());
}

fn text(settings: &Settings, doors: &[(&'static str, Endpoint)], started: Duration) -> String {
    let mut text = String::new();
    let promise = match settings.durability {
        Durability::Fsync => "every yes is flushed to disk",
        Durability::Os => "NOT flushed to disk: a power cut loses confirmed messages",
        Durability::Memory => "IN MEMORY ONLY: everything is lost at exit",
    };
    let place = match settings.durability {
        Durability::Fsync | Durability::Os => settings.data_dir.display().to_string(),
        Durability::Memory => "nowhere".to_owned(),
    };
    let ready_ms = started.as_millis();
    let line = format!("potager {VERSION} ready in {ready_ms} ms; data in {place}; {promise}");
    // Writing to a String cannot fail.
    writeln!(text, "{line}").unwrap_or_default();
    for (door, place) in doors {
        let shown = match (*door, at(place).map(reachable)) {
            (_, None) => String::new(),
            ("http" | "https", Some(url)) => {
                format!("  {door}://{url}  (/metrics, /health/ready, /api)")
            }
            (door, Some(url)) => format!("  {door}://{url}"),
        };
        writeln!(text, "listening: {door} {place}{shown}").unwrap_or_default();
    }
    for line in next(settings, doors).into_iter().chain(trust(settings, doors)) {
        writeln!(text, "{line}").unwrap_or_default();
    }
    text
}

/// How a client comes to trust a certificate that this server made itself.
fn trust(settings: &Settings, doors: &[(&'static str, Endpoint)]) -> Vec<String> {
    if settings.tls.mode != TlsMode::Auto {
        return Vec::new();
    }
    let file = settings.data_dir.join("tls").join(AUTHORITY);
    let file = std::path::absolute(&file).unwrap_or(file).display().to_string();
    let mut lines = vec![format!("tls: clients have to trust {file}")];
    if let Some(amqps) = address_of("amqps", doors) {
        let port = amqps.port();
        lines.push(format!(
            "  pika: ConnectionParameters('localhost', {port}, ssl_options=SSLOptions(\
             ssl.create_default_context(cafile={file:?}), 'localhost'))"
        ));
    }
    lines
}

/// What to type next: a Celery worker when the AMQP door is open, how to add a user otherwise.
fn next(settings: &Settings, doors: &[(&'static str, Endpoint)]) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(amqp) = address_of("amqp", doors) {
        let (port, url) = (amqp.port(), reachable(amqp));
        let login = if settings.guest.is_enabled { "guest:guest" } else { "USER:PASSWORD" };
        let broker = match (port, amqp.ip().is_loopback() && settings.guest.is_enabled) {
            (5672, true) => "amqp://".to_owned(),
            _ => format!("amqp://{login}@{url}//"),
        };
        lines.push(format!("next: celery -A app worker --broker={broker}"));
        let flag = if port == 5672 { String::new() } else { format!("--url amqp://{url} ") };
        lines.push(format!("  or: potager publish {flag}--declare --queue hello 'first message'"));
        if !amqp.ip().is_loopback() {
            let text = "note: guest may log in from this machine only; for others: \
                        potager users add NAME";
            lines.push(text.to_owned());
        }
    }
    lines
}

/// Where a door listens, if it is open and not at a file.
fn address_of(name: &str, doors: &[(&'static str, Endpoint)]) -> Option<SocketAddr> {
    doors.iter().find(|(door, _)| *door == name).and_then(|(_, place)| at(place))
}

const fn at(place: &Endpoint) -> Option<SocketAddr> {
    if let Endpoint::At(address) = place { Some(*address) } else { None }
}

/// An address that a client on this machine can use: the wildcard listens, but is nowhere.
fn reachable(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        return format!("localhost:{}", address.port());
    }
    address.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(settings: &Settings, amqp: &str) -> String {
        let at = |address: &str| Endpoint::At(address.parse().unwrap());
        let file = Endpoint::File("/run/jobs".into());
        let doors = [("amqp", at(amqp)), ("http", at("127.0.0.1:15672")), ("beanstalk", file)];
        text(settings, &doors, Duration::from_millis(12))
    }

    #[test]
    fn a_newcomer_is_told_what_to_type() {
        let shown = screen(&Settings::default(), "127.0.0.1:5672");
        assert!(shown.contains("listening: amqp 127.0.0.1:5672"), "{shown}");
        assert!(shown.contains("listening: http 127.0.0.1:15672"), "{shown}");
        assert!(shown.contains("next: celery -A app worker --broker=amqp://\n"), "{shown}");
        assert!(shown.contains("listening: beanstalk unix:/run/jobs\n"), "{shown}");
        assert!(shown.lines().count() <= 7, "{shown}");
    }

    #[test]
    fn a_made_up_authority_is_named_with_a_line_to_copy() {
        let mut settings = Settings::default();
        let doors = [("amqps", Endpoint::At("127.0.0.1:5671".parse().unwrap()))];
        let plain = text(&settings, &doors, Duration::ZERO);
        assert!(plain.contains("amqps://127.0.0.1:5671") && !plain.contains("ca.pem"), "{plain}");
        settings.tls.mode = TlsMode::Auto;
        let shown = text(&settings, &doors, Duration::ZERO);
        assert!(shown.contains("potager-data/tls/ca.pem"), "{shown}");
        assert!(shown.contains("SSLOptions(ssl.create_default_context("), "{shown}");
    }

    #[test]
    fn another_port_is_in_the_command() {
        let shown = screen(&Settings::default(), "127.0.0.1:4001");
        assert!(shown.contains("--broker=amqp://guest:guest@127.0.0.1:4001//"), "{shown}");
    }

    #[test]
    fn the_wildcard_names_a_usable_address_and_warns_about_guest() {
        let shown = screen(&Settings::default(), "0.0.0.0:5672");
        assert!(shown.contains("amqp://localhost:5672"), "{shown}");
        assert!(shown.contains("potager users add"), "{shown}");
    }

    #[test]
    fn weaker_durability_is_said_out_loud() {
        for (durability, word) in [(Durability::Os, "NOT flushed"), (Durability::Memory, "MEMORY")]
        {
            let settings = Settings { durability, ..Settings::default() };
            assert!(screen(&settings, "127.0.0.1:5672").contains(word));
        }
    }
}
