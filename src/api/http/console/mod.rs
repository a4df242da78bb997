//! The console: a web page that shows the whole cluster, and changes nothing.
//!
//! The page is embedded in the binary and loads nothing from other hosts. It fetches its data from `api/…`,
//! as the JSON of [`brock_client::view`]. `access` decides who may open it.

mod access;

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use data_encoding::HEXLOWER_PERMISSIVE;
use serde_json::{Value, json};

pub(crate) use access::{Caller, Gate};

use crate::app::{cluster::Cluster, records, trace::Traces};
use brock_client::view::{self, Setting, trace::TracedNode};
use brock_core::{base::limits, proto};

/// The files of the page, by path below `/console/`.
const FILES: [(&str, &str, &str); 5] = [
    ("", "text/html; charset=utf-8", include_str!("index.html")),
    ("style.css", "text/css; charset=utf-8", include_str!("style.css")),
    ("app.js", "text/javascript; charset=utf-8", include_str!("app.js")),
    ("draw.js", "text/javascript; charset=utf-8", include_str!("draw.js")),
    ("words.js", "text/javascript; charset=utf-8", include_str!("words.js")),
];

/// No content from other hosts, no inline scripts, no frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The sources of the console.
pub(crate) struct Console {
    /// All nodes.
    pub(crate) cluster: Cluster,
    /// Where a record is.
    pub(crate) traces: Traces,
    /// This node's configuration.
    pub(crate) settings: Arc<[proto::show_configuration_response::Setting]>,
}

/// Set once the node serves; until then the console answers that the node is not up yet.
pub(crate) type Slot = Arc<std::sync::OnceLock<Console>>;

/// The console's pages, protected by `gate`.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(slot: Slot, gate: Arc<Gate>) -> Router<S> {
    let mut router = Router::new()
        .route("/console", get(Redirect::permanent("/console/")))
        .route("/console/api/cluster", get(cluster))
        .route("/console/api/configuration", get(configuration))
        .route(
            "/console/api/trace",
            post(trace).layer(DefaultBodyLimit::max(limits::CONSOLE_REQUEST_MAX_BYTES)),
        );
    for (name, kind, text) in FILES {
        let page = ([(header::CONTENT_TYPE, kind), (header::CONTENT_SECURITY_POLICY, POLICY)], text);
        router = router.route(&format!("/console/{name}"), get(page));
    }
    // Not a layer: a layer would also protect paths outside of the console.
    router.route_layer(from_fn_with_state(gate, access::check)).with_state(slot)
}

fn problem(code: StatusCode, text: impl Into<String>) -> Response {
    (code, Json(json!({ "error": text.into() }))).into_response()
}

fn not_yet() -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, "the node is not up yet")
}

async fn cluster(State(slot): State<Slot>) -> Response {
    let Some(console) = slot.get() else { return not_yet() };
    let seen = match console.cluster.view(true, false).await {
        Ok(seen) => view::Cluster::try_from(seen).map_err(|error| error.to_string()),
        Err(problem) => Err(problem.to_string()),
    };
    match seen {
        Ok(cluster) => Json(cluster).into_response(),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, error),
    }
}

async fn configuration(State(slot): State<Slot>) -> Response {
    let Some(console) = slot.get() else { return not_yet() };
    let settings: Vec<Setting> = console.settings.iter().cloned().map(Setting::from).collect();
    Json(settings).into_response()
}

/// A POST, so that no key hash gets into a log or a browser's history.
async fn trace(
    State(slot): State<Slot>,
    Extension(_): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(console) = slot.get() else { return not_yet() };
    // A form on another site cannot send this content type.
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
        return problem(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the request must have the content type application/json",
        );
    }
    let asked: Option<Value> = serde_json::from_slice(&body).ok();
    let hex = asked.as_ref().and_then(|asked| asked.get("key_hash")).and_then(Value::as_str);
    let Some(key_hash) = hex.and_then(|hex| HEXLOWER_PERMISSIVE.decode(hex.trim().as_bytes()).ok()) else {
        return problem(StatusCode::BAD_REQUEST, "a key hash is 64 hexadecimal digits: the SHA-256 of a key");
    };
    let traced = match records::key_hash(&key_hash) {
        Ok(key_hash) => console.traces.everywhere(key_hash).await,
        Err(error) => Err(error),
    };
    match traced {
        Ok(traced) => {
            Json(traced.nodes.into_iter().map(TracedNode::from).collect::<Vec<_>>()).into_response()
        }
        Err(error) => problem(StatusCode::BAD_REQUEST, error.to_string()),
    }
}
