//! The HTTP server: metrics for Prometheus, probes for supervisors, the console for operators.
//!
//! It serves plain HTTP unless `http.tls` is set, on loopback by default. Only the console is protected:
//! the other pages show numbers and states, never records.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;

use super::{
    console::{self, Caller, Gate},
    probes::Thresholds,
    readiness::Readiness,
};
use crate::{membership::compare::SyncStatus, telemetry::logs::Telemetry};
use brock_core::base::limits;
use brock_net::{
    listen,
    places::Places,
    task::{TaskName, Tasks},
    tls::web::WebTls,
};

/// The type of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4";
/// Shorter in tests, which wait for its end.
const HEADER_TIMEOUT: Duration =
    if cfg!(test) { Duration::from_millis(200) } else { limits::HTTP_HEADER_TIMEOUT };

const INDEX: &str = "Brock node\n\n\
    /console/ the state of the cluster\n\
    /metrics  metrics in Prometheus' text format\n\
    /livez    200 while the process runs\n\
    /readyz   200 if the node is ready for traffic, otherwise 503 and the reasons\n\
    /healthz?max_lag=ENTRIES&max_gap=DURATION\n              \
    200 if the node is ready and within these limits behind its peers, otherwise 503 and the reasons\n";

/// The sources of the pages.
#[derive(Clone)]
pub struct Pages {
    /// For `/readyz`.
    pub readiness: Arc<Readiness>,
    /// For `/healthz`: how far the node is behind its peers now.
    pub sync_status: Arc<dyn Fn() -> SyncStatus + Send + Sync>,
    /// For `/metrics`; without it, that page answers 404.
    pub telemetry: Option<Arc<Telemetry>>,
    /// For `/console/`.
    pub(crate) console: console::Slot,
    /// Who may open the console.
    pub(crate) gate: Arc<Gate>,
    /// `None`: plain HTTP.
    pub(crate) tls: Option<WebTls>,
}

/// The pages and their paths.
pub fn router(pages: Pages) -> Router {
    let console = console::router(Arc::clone(&pages.console), Arc::clone(&pages.gate));
    Router::new()
        .merge(console)
        .route("/", get(INDEX))
        .route("/livez", get("ok\n"))
        .route("/readyz", get(readyz))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .with_state(pages)
}

async fn readyz(State(pages): State<Pages>) -> impl IntoResponse {
    let filling = pages.readiness.filling().map(|filling| format!("{filling}\n")).unwrap_or_default();
    match pages.readiness.reasons().as_slice() {
        [] => (StatusCode::OK, format!("ok\n{filling}")),
        reasons => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n{filling}", reasons.join("; "))),
    }
}

async fn healthz(
    State(pages): State<Pages>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> impl IntoResponse {
    let query = query.map_err(|rejection| rejection.body_text());
    let thresholds = match query.and_then(|Query(query)| Thresholds::parse(&query)) {
        Ok(thresholds) => thresholds,
        Err(problem) => return (StatusCode::BAD_REQUEST, format!("{problem}\n")),
    };
    let mut reasons: Vec<String> = pages.readiness.reasons().into_iter().map(str::to_owned).collect();
    reasons.extend(thresholds.exceeded(&(pages.sync_status)()));
    if reasons.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not healthy: {}\n", reasons.join("; ")))
}

async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    match pages.telemetry {
        // Reading /proc blocks.
        Some(telemetry) => match spawn_blocking(move || telemetry.render()).await {
            Ok(page) => ([(header::CONTENT_TYPE, METRICS_TYPE)], page).into_response(),
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response(),
        },
        None => (StatusCode::NOT_FOUND, "this process has no metrics\n").into_response(),
    }
}

/// Starts serving on `listener`, until `tasks` stops.
///
/// `/readyz` should answer "shutting down" while the node drains, so stop `tasks` after the drain.
/// `max_connections` may be open; further ones replace the oldest.
pub fn spawn(tasks: &Tasks, listener: TcpListener, max_connections: usize, pages: Pages) {
    let (connections, stopping, tls) = (tasks.clone(), tasks.stopping().clone(), pages.tls.clone());
    let router = router(pages);
    tasks.spawn(TaskName::Http, |status| async move {
        let places = Places::new(max_connections);
        status.set_state("serving");
        let mut has_failed = false;
        loop {
            let accepted = stopping.run_until_cancelled(listen::accept(&listener)).await;
            match accepted {
                None => break,
                Some(Ok((stream, remote))) => {
                    status.clear_error();
                    has_failed = false;
                    let place = places.take(remote.ip()).await;
                    let (router, stopping, tls) = (router.clone(), stopping.clone(), tls.clone());
                    connections.spawn_short(async move {
                        tokio::select! {
                            () = handshake(stream, router, tls, stopping) => {}
                            () = place.evicted() => {}
                        }
                    });
                }
                Some(Err(error)) => {
                    status.set_error(&error.to_string());
                    if !std::mem::replace(&mut has_failed, true) {
                        tracing::warn!(%error, "cannot accept connections on http.address; trying again");
                    }
                    tokio::time::sleep(limits::HTTP_ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    });
}

/// Serves a connection, after the TLS handshake if there is one.
async fn handshake(stream: TcpStream, router: Router, tls: Option<WebTls>, stopping: CancellationToken) {
    let Some(tls) = tls else {
        return serve(stream, router.layer(Extension(Caller::default())), stopping).await;
    };
    match stopping.run_until_cancelled(tls.accept(stream)).await {
        None => {}
        Some(Ok((stream, role))) => {
            serve(stream, router.layer(Extension(Caller { role })), stopping).await;
        }
        Some(Err(error)) => tracing::debug!(%error, "a TLS handshake on http.address failed"),
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    stopping: CancellationToken,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let expired = tokio::time::sleep(limits::HTTP_CONNECTION_MAX_AGE);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = expired => return,
    };
    if let Err(error) = result {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    struct Site {
        tasks: Tasks,
        readiness: Arc<Readiness>,
        address: std::net::SocketAddr,
    }

    async fn site(telemetry: Option<Arc<Telemetry>>) -> Site {
        let (tasks, readiness) = (Tasks::default(), Arc::new(Readiness::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sync_status =
            Arc::new(|| SyncStatus { peers: 1, lag_entries: Some(7), gap: Some(Duration::from_secs(3)) });
        let gate = Arc::new(Gate { on_loopback: true, token: None, tls: false });
        let pages = Pages {
            readiness: Arc::clone(&readiness),
            sync_status,
            telemetry,
            console: console::Slot::default(),
            gate,
            tls: None,
        };
        spawn(&tasks, listener, 4, pages);
        Site { tasks, readiness, address }
    }

    impl Site {
        async fn get(&self, path: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        }
    }

    #[tokio::test]
    async fn a_node_is_alive_at_once_and_ready_when_it_says_so() {
        let site = site(None).await;
        assert!(site.get("/livez").await.starts_with("HTTP/1.1 200 "));
        let answer = site.get("/readyz").await;
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.contains("the store is not open yet"),
            "{answer}"
        );
        site.readiness.set_store_open();
        site.readiness.set_caught_up();
        assert!(site.get("/readyz").await.starts_with("HTTP/1.1 200 "));
        site.readiness.set_draining();
        let answer = site.get("/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("shutting down"), "{answer}");
        assert!(site.get("/livez").await.starts_with("HTTP/1.1 200 "));
        assert!(site.get("/").await.contains("/metrics"));
        assert!(site.get("/metrics").await.starts_with("HTTP/1.1 404 "));
        assert!(site.get("/etc/passwd").await.starts_with("HTTP/1.1 404 "));
    }

    #[tokio::test]
    async fn a_node_is_healthy_within_the_thresholds_of_the_query() {
        let site = site(None).await;
        let is = async |path: &str, code: &str, part: &str| {
            let answer = site.get(path).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {code} ")) && answer.contains(part),
                "{path}: {answer}"
            );
        };
        is("/healthz?max_lag=7", "503", "not healthy: the store is not open yet").await;
        site.readiness.set_store_open();
        site.readiness.set_caught_up();
        is("/healthz", "200", "ok").await;
        is("/healthz?max_lag=7&max_gap=3s", "200", "ok").await;
        is("/healthz?max_lag=6&max_gap=1m", "503", "not healthy: this node lacks 7 operations").await;
        is("/healthz?max_lag=6&max_gap=2s", "503", "more than 6; nothing was heard").await;
        is("/healthz?max_lag=seven", "400", "max_lag=seven").await;
        is("/healthz?lag=7", "400", "unknown parameter lag").await;
    }

    #[tokio::test]
    async fn metrics_are_served_with_buckets_help_and_the_version() {
        let telemetry = Arc::new(Telemetry::install_metrics().unwrap());
        ::metrics::histogram!(brock_core::base::metrics::COMMIT_DURATION).record(0.003);
        telemetry.set_node(&"n1".parse().unwrap());
        let site = site(Some(Arc::clone(&telemetry))).await;
        telemetry.spawn_folding(&site.tasks);
        let answer = site.get("/metrics").await;
        for part in [
            "HTTP/1.1 200 ",
            "content-type: text/plain; version=0.0.4",
            "brock_build_info{version=\"",
            "node_id=\"n1\"} 1",
            "\nbrock_conflicts_total ",
            "\nbrock_resyncs_total{outcome=\"error\"} ",
            "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total ",
            "# TYPE brock_commit_duration_seconds histogram",
            "# HELP brock_commit_duration_seconds How long",
            "brock_commit_duration_seconds_bucket{le=\"0.005\"} 1",
        ] {
            assert!(answer.contains(part), "{part} is not in\n{answer}");
        }
        assert!(site.tasks.stop(Duration::from_secs(5)).await);
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_hold_up_the_shutdown() {
        let site = site(None).await;
        let mut idle = TcpStream::connect(site.address).await.unwrap();
        idle.write_all(b"GET /livez HTTP/1.1\r\nHost: node\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        idle.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        assert!(site.tasks.stop(Duration::from_secs(5)).await);
        assert!(TcpStream::connect(site.address).await.is_err());
    }

    #[tokio::test]
    async fn a_connection_that_never_asks_is_closed() {
        let site = site(None).await;
        let mut silent = TcpStream::connect(site.address).await.unwrap();
        silent.write_all(b"GET /li").await.unwrap();
        let mut answer = Vec::new();
        silent.read_to_end(&mut answer).await.unwrap();
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
}
