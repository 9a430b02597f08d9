//! The management API from the other side: what `queues`, `users` and `vhosts` need to ask a
//! running server. Not a command; the door itself is `crate::http`.

use std::{future::Future, io::Write, path::PathBuf, time::Duration};

use anyhow::{Context, anyhow, bail};
use base64ct::{Base64, Encoding};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, StatusCode, Uri, body::Incoming, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;

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
    /// HTTP door of the server
    #[arg(long, global = true, default_value = "http://127.0.0.1:15672")]
    url: String,
    /// Who asks: an administrator; the password is asked for, or taken from the file below or
    /// from $`POTAGER_PASSWORD` (guest's is known)
    #[arg(long, global = true, default_value = "guest", value_name = "NAME")]
    user: String,
    /// File with the password of --user
    #[arg(long, global = true, value_name = "FILE")]
    user_password_file: Option<PathBuf>,
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
        let (status, json) = runtime.block_on(self.in_time(async {
            let answer = self.ask(method, path, body).await?;
            whole(answer).await
        }))?;
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
        runtime.block_on(async {
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
        let (host, port) = self.place()?;
        let unreachable = || {
            format!(
                "cannot reach the server at {}; is it running? start one with `potager serve`, or \
                 name another with --url",
                self.url
            )
        };
        let stream = tokio::net::TcpStream::connect((host.trim_matches(['[', ']']), port))
            .await
            .with_context(unreachable)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, format!("{host}:{port}"))
            .header(header::AUTHORIZATION, self.login()?)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        sender.send_request(request).await.with_context(unreachable)
    }

    fn place(&self) -> Result<(String, u16), Usage> {
        let wrong = || Usage(format!("--url {}: expected http://HOST:PORT", self.url));
        let uri: Uri = self.url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong());
        }
        let host = uri.host().ok_or_else(wrong)?.to_owned();
        Ok((host, uri.port_u16().unwrap_or(15672)))
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
        Server { url: url.into(), user: "guest".into(), user_password_file: None }
    }

    #[test]
    fn segments_are_escaped() {
        assert_eq!(path(&["queues", "/", "a b/ü"]), "/api/queues/%2f/a%20b%2f%c3%bc");
        assert_eq!(path(&["users", ".."]), "/api/users/%2e%2e");
    }

    #[test]
    fn urls() {
        let place = |url: &str| server(url).place().ok();
        assert_eq!(place("http://h:1"), Some(("h".into(), 1)));
        assert_eq!(place("http://h/"), Some(("h".into(), 15672)));
        assert_eq!(place("http://[::1]:2"), Some(("[::1]".into(), 2)));
        for url in ["h:1", "https://h:1", "", "http://"] {
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
