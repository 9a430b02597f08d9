//! [`Route`]: how a connection is opened: straight, or with `CONNECT` through the proxy that the
//! environment names (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, as curl reads them).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::Way;

/// How long opening may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long the other side may be silent before the system asks whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Opens connections.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    direct: HttpConnector,
    proxies: Option<Arc<Matcher>>,
}

type Opening = Pin<Box<dyn Future<Output = Result<TokioIo<TcpStream>, BoxError>> + Send>>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Route {
    pub(super) fn new(way: Way) -> Self {
        match way {
            Way::Direct => Self::through(None),
            Way::ByEnvironment => Self::through(Some(Matcher::from_env())),
        }
    }

    fn through(proxies: Option<Matcher>) -> Self {
        let mut direct = HttpConnector::new();
        direct.enforce_http(false);
        direct.set_nodelay(true);
        direct.set_connect_timeout(Some(CONNECT_MAX));
        direct.set_keepalive(Some(KEEPALIVE));
        Self { direct, proxies: proxies.map(Arc::new) }
    }
}

impl Service<Uri> for Route {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Opening;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.direct.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Opening {
        let proxy = self.proxies.as_ref().and_then(|proxies| proxies.intercept(&target));
        let Some(proxy) = proxy else {
            let opening = self.direct.call(target);
            return Box::pin(async move { Ok(opening.await?) });
        };
        if proxy.uri().scheme_str() != Some("http") {
            let text = format!("the proxy {} is not an http:// one", proxy.uri());
            return Box::pin(std::future::ready(Err(text.into())));
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.direct.clone());
        if let Some(login) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(login.clone());
        }
        let opening = tunnel.call(with_port(target));
        Box::pin(async move { Ok(tokio::time::timeout(CONNECT_MAX, opening).await??) })
    }
}

/// The tunnel wants a port in every address.
fn with_port(target: Uri) -> Uri {
    let port = if target.scheme_str() == Some("https") { 443 } else { 80 };
    let (None, Some(host)) = (target.port(), target.host()) else { return target };
    let mut parts = target.clone().into_parts();
    parts.authority = format!("{host}:{port}").parse().ok();
    Uri::from_parts(parts).unwrap_or(target)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn every_address_gets_a_port() {
        let port = |text: &str| with_port(text.parse().unwrap()).to_string();
        assert_eq!(port("https://h/x"), "https://h:443/x");
        assert_eq!(port("http://h:1/x"), "http://h:1/x");
        assert_eq!(port("http://[::1]/"), "http://[::1]:80/");
    }

    #[tokio::test]
    async fn a_proxy_is_asked_to_connect_with_its_login() {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = format!("http://ann:pw@{}", proxy.local_addr().unwrap());
        let mut route = Route::through(Some(Matcher::builder().all(place).build()));
        let served = tokio::spawn(async move {
            let (mut socket, _) = proxy.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(socket.read_u8().await.unwrap());
            }
            socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            String::from_utf8(asked).unwrap()
        });
        route.call(Uri::from_static("https://far.example/work")).await.unwrap();
        let asked = served.await.unwrap();
        assert!(asked.starts_with("CONNECT far.example:443 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.to_lowercase().contains("proxy-authorization: basic yw5uonb3"), "{asked}");
    }

    #[tokio::test]
    async fn what_is_named_is_not_proxied() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = server.local_addr().unwrap();
        // Nobody listens at the proxy's address.
        let matcher = Matcher::builder().all("http://127.0.0.1:1").no("127.0.0.1").build();
        let mut route = Route::through(Some(matcher));
        route.call(format!("http://{place}/").parse().unwrap()).await.unwrap();
    }
}
