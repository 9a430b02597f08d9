//! The HTTP adapter: hyper on one side, one async function on the other. No routes and no meaning
//! here; those belong to whoever passes the handler in.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

mod body;

pub use body::{Body, BodySender, Broken, stream};
pub use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};

/// Largest request body.
pub const BODY_BYTES_MAX: usize = 20 * 1024 * 1024;
/// How long a client may take to send its request line and headers.
const HEADERS_MAX: Duration = Duration::from_secs(10);

/// Serves one HTTP/1.1 connection, plain or encrypted: each request, body and all, goes to
/// `handler`.
pub async fn serve<I, H, T>(stream: I, peer: SocketAddr, handler: Rc<H>)
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Fn(Request<Bytes>, SocketAddr) -> T + 'static,
    T: Future<Output = Response<Body>>,
{
    let service = service_fn(move |request| {
        let handler = Rc::clone(&handler);
        async move { Ok::<_, Infallible>(answer(request, peer, &*handler).await) }
    });
    let outcome = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_MAX)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "an HTTP connection ended early");
    }
}

async fn answer<H, T>(request: Request<Incoming>, peer: SocketAddr, handler: &H) -> Response<Body>
where
    H: Fn(Request<Bytes>, SocketAddr) -> T,
    T: Future<Output = Response<Body>>,
{
    let (head, body) = request.into_parts();
    if let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await {
        return handler(Request::from_parts(head, body.to_bytes()), peer).await;
    }
    let text = format!("a request body may have at most {BODY_BYTES_MAX} bytes\n");
    let mut response = Response::new(Body::from(Bytes::from(text)));
    *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
    response
}
