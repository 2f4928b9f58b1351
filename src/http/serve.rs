//! Serving: a bounded number of connections, each with a bounded patience.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::tasks::Tasks;

/// How many connections are open at once; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 64;

/// How long a request's head may take, and how long a connection may be idle.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);

/// How long one connection may last.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(60);

/// How long the answers under way may take when the supervisor ends.
const END_TIME_MAX: Duration = Duration::from_millis(500);

/// The wait after a failed accept: without file descriptors it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds an address.
///
/// # Errors
/// What the system said.
pub async fn bind(address: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers until it is told to stop.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut clients = Tasks::new();
    loop {
        let next = async {
            // The semaphore is never closed.
            let permit = Arc::clone(&permits).acquire_owned().await.ok();
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = stop.cancelled() => break,
            next = next => next,
        };
        match (accepted, permit) {
            (Ok((stream, _)), Some(permit)) => {
                let router = router.clone();
                clients.start("http client", |stop| converse(stream, router, permit, stop));
            }
            (Ok(_), None) => break,
            (Err(error), _) => {
                tracing::warn!(%error, "a client could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    clients.shut_down(END_TIME_MAX).await;
}

async fn converse(stream: TcpStream, router: Router, permit: OwnedSemaphorePermit, stop: CancellationToken) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::select! {
        () = stop.cancelled() => {}
        ended = tokio::time::timeout(CONNECTION_TIME_MAX, connection) => {
            if let Ok(Err(error)) = ended {
                tracing::debug!(%error, "a client broke off");
            }
        }
    }
    drop(permit);
}
