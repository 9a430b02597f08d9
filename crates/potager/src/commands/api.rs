//! The management API from the other side: what `queues`, `users` and `vhosts` need to ask a
//! running server. Not a command; the door itself is `crate::http`.

use std::{future::Future, io::Write, path::PathBuf, time::Duration};

use anyhow::{Context, anyhow, bail};
use base64ct::{Base64, Encoding};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode, Uri, body::Incoming, header};
use hyper_util::rt::TokioIo;
use net::tls::TlsStream;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::LocalSet,
};

use crate::{exit::Usage, password};

/// Largest answer that is read: a million queues.
const ANSWER_BYTES_MAX: usize = 512 << 20;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The password of `--user`, for scripts.
const VARIABLE: &str = "POTAGER_PASSWORD";

/// Which server, and who asks.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Server {
    /// HTTP door of the server, http:// or https://
    #[arg(long, global = true, default_value = "http://127.0.0.1:15672")]
    url: String,
    /// Who asks: an administrator; the password is asked for, or taken from the file below or
    /// from $`POTAGER_PASSWORD` (guest's is known)
    #[arg(long, global = true, default_value = "guest", value_name = "NAME")]
    user: String,
    /// File with the password of --user
    #[arg(long, global = true, value_name = "FILE")]
    user_password_file: Option<PathBuf>,
    /// PEM file with the authority that signs an https:// server; else those of the system
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// Where a URL leads.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    has_tls: bool,
    /// As it stands in the URL: an IPv6 address has brackets.
    host: String,
    port: u16,
}

impl Place {
    fn bare_host(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }
}

impl Server {
    /// Asks one thing and returns the answer's JSON (`null` for none).
    ///
    /// # Errors
    /// The server cannot be reached, or refuses; the message says what to do.
    pub(crate) fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let work = self.in_time(async {
            let answer = self.ask(method, path, body).await?;
            whole(answer).await
        });
        let (status, json) = LocalSet::new().block_on(&runtime, work)?;
        if status.is_success() {
            return Ok(json);
        }
        bail!("{}", self.explain(status, &json))
    }

    /// Gets something that may be large and writes it as it comes.
    ///
    /// # Errors
    /// As [`Server::call`]; the answer ends before it is whole; it cannot be written.
    pub(crate) fn download(&self, path: &str, out: &mut dyn Write) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, async {
            let answer = self.in_time(self.ask(Method::GET, path, None)).await?;
            if !answer.status().is_success() {
                let (status, json) = self.in_time(whole(answer)).await?;
                bail!("{}", self.explain(status, &json));
            }
            let mut body = answer.into_body();
            while let Some(frame) = self.in_time(async { Ok(body.frame().await) }).await? {
                let frame = frame.map_err(|error| anyhow!("the answer breaks off: {error}"))?;
                if let Ok(bytes) = frame.into_data() {
                    out.write_all(&bytes).context("could not write what the server sends")?;
                }
            }
            Ok(())
        })
    }

    async fn in_time<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::time::timeout(PATIENCE, work)
            .await
            .map_err(|_| anyhow!("{} did not answer within {PATIENCE:?}", self.url))?
    }

    fn explain(&self, status: StatusCode, answer: &Value) -> String {
        let reason = answer.get("reason").and_then(Value::as_str).unwrap_or("no reason given");
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => format!(
                "{} does not let '{}' do this: {reason}; name an administrator with --user",
                self.url, self.user
            ),
            StatusCode::NOT_FOUND => format!("not found on {}", self.url),
            _ => format!("{} refused: {reason} ({status})", self.url),
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Response<Incoming>> {
        let place = self.place()?;
        let unreachable = || {
            format!(
                "cannot reach the server at {}; is it running? start one with `potager serve`, or \
                 name another with --url",
                self.url
            )
        };
        let stream = TcpStream::connect((place.bare_host(), place.port)).await;
        let stream = stream.with_context(unreachable)?;
        let mut sender = if place.has_tls {
            converse(self.encrypt(stream, &place).await?).await?
        } else {
            converse(stream).await?
        };
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, format!("{}:{}", place.host, place.port))
            .header(header::AUTHORIZATION, self.login()?)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        sender.send_request(request).await.with_context(unreachable)
    }

    async fn encrypt(&self, stream: TcpStream, place: &Place) -> anyhow::Result<TlsStream> {
        let config = net::tls::client_config(self.ca_file.as_deref());
        let config = config.map_err(|fault| Usage(fault.to_string()))?;
        net::tls::connect(stream, config, place.bare_host()).await.with_context(|| {
            format!(
                "cannot talk to {} over TLS; if its certificate is signed by an authority of its \
                 own, name that with --ca-file",
                self.url
            )
        })
    }

    fn place(&self) -> Result<Place, Usage> {
        let wrong = || Usage(format!("--url {}: expected http(s)://HOST:PORT", self.url));
        let uri: Uri = self.url.parse().map_err(|_| wrong())?;
        let (has_tls, port) = match uri.scheme_str() {
            Some("http") => (false, 15672),
            Some("https") => (true, 15671),
            _ => return Err(wrong()),
        };
        let host = uri.host().ok_or_else(wrong)?.to_owned();
        Ok(Place { has_tls, host, port: uri.port_u16().unwrap_or(port) })
    }

    fn login(&self) -> anyhow::Result<String> {
        let password = match (std::env::var(VARIABLE), &self.user_password_file) {
            (_, Some(file)) => password::obtain(Some(file), false)?,
            (Ok(password), None) => password.into_bytes(),
            (Err(_), None) if self.user == "guest" => b"guest".to_vec(),
            (Err(_), None) => password::obtain(None, false)?,
        };
        let mut login = self.user.clone().into_bytes();
        login.push(b':');
        login.extend_from_slice(&password);
        Ok(format!("Basic {}", Base64::encode_string(&login)))
    }
}

/// Begins HTTP on a stream; a task of the same thread carries it on.
async fn converse<I>(stream: I) -> anyhow::Result<SendRequest<Full<Bytes>>>
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

/// All of an answer: its JSON, or `null`.
async fn whole(answer: Response<Incoming>) -> anyhow::Result<(StatusCode, Value)> {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow!("cannot read the answer: {error}"))?;
    Ok((status, serde_json::from_slice(&body.to_bytes()).unwrap_or_default()))
}

/// A path below `/api`; segments may hold any bytes.
pub(crate) fn path(segments: &[&str]) -> String {
    let mut path = String::from("/api");
    for segment in segments {
        path.push('/');
        for byte in segment.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => path.push(byte.into()),
                byte => {
                    path.push('%');
                    for digit in [byte >> 4, byte & 15] {
                        path.extend(char::from_digit(u32::from(digit), 16));
                    }
                }
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Server {
        Server { url: url.into(), user: "guest".into(), user_password_file: None, ca_file: None }
    }

    #[test]
    fn segments_are_escaped() {
        assert_eq!(path(&["queues", "/", "a b/ü"]), "/api/queues/%2f/a%20b%2f%c3%bc");
        assert_eq!(path(&["users", ".."]), "/api/users/%2e%2e");
    }

    #[test]
    fn urls() {
        let place = |url: &str| server(url).place().ok();
        let is = |has_tls, host: &str, port| Some(Place { has_tls, host: host.into(), port });
        assert_eq!(place("http://h:1"), is(false, "h", 1));
        assert_eq!(place("http://h/"), is(false, "h", 15672));
        assert_eq!(place("http://[::1]:2"), is(false, "[::1]", 2));
        assert_eq!(place("https://h"), is(true, "h", 15671));
        assert_eq!(place("https://[::1]:2").unwrap().bare_host(), "::1");
        for url in ["h:1", "ftp://h:1", "", "http://"] {
            assert_eq!(place(url), None, "{url}");
        }
    }

    #[test]
    fn a_server_that_is_not_there_is_named_with_what_to_do() {
        // Port 1 of the loopback address: nobody listens there.
        let error = server("http://127.0.0.1:1").call(Method::GET, "/", None).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("potager serve") && text.contains("--url"), "{text}");
    }
}
