//! Traces that are sent to a collector.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::{Span, status::StatusCode},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Request, Response, Status, transport::Server};

use crate::harness::{
    certs::Certs, client::put_request, eventually, free_port, metrics::Page, process::Launch, random_key,
};

const SENT: &str = "brock_trace_spans_total{outcome=\"sent\"}";
const FAILED: &str = "brock_trace_spans_total{outcome=\"failed\"}";
const WARNING: &str = "cannot export spans to the collector";

/// Takes all that it is sent.
struct Collector {
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    _stop: DropGuard,
}

struct Service(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let (requests, stop): (Arc<Mutex<Vec<_>>>, _) = (Arc::default(), CancellationToken::new());
        let service = TraceServiceServer::new(Service(Arc::clone(&requests)));
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move {
            let server = Server::builder().add_service(service);
            server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped).await.unwrap();
        });
        Self { requests, _stop: stop.drop_guard() }
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.requests.lock().unwrap();
        let spans = requests.iter().flat_map(|request| &request.resource_spans);
        spans.flat_map(|spans| &spans.scope_spans).flat_map(|spans| spans.spans.clone()).collect()
    }

    /// All that it was sent, as bytes.
    fn bytes(&self) -> Vec<u8> {
        self.requests.lock().unwrap().iter().flat_map(prost::Message::encode_to_vec).collect()
    }
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key == name)?;
    Some(format!("{:?}", found.value.as_ref()?.value.as_ref()?))
}

fn traced(launch: &mut Launch, port: u16, ratio: &str) {
    launch.more.push(format!("--trace.otlp-endpoint=http://127.0.0.1:{port}"));
    launch.more.push(format!("--trace.sample-ratio={ratio}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_the_spans_of_a_node_and_nothing_secret() {
    let (certs, home, port) = (Certs::new(), tempfile::tempdir().unwrap(), free_port());
    let collector = Collector::start(port).await;
    let mut launches = ["n1", "n2"].map(|id| Launch::new(&certs, id, &home.path().join(id)));
    launches[0].join = vec![launches[1].port];
    traced(&mut launches[0], port, "1");
    launches[0].more.push("--node.replication-interval=1s".to_owned());
    let bucket = format!("--node.backup.bucket=file://{}", home.path().join("bucket").display());
    launches[0].more.extend(["--node.backup.enabled=true".to_owned(), bucket]);
    let (other, donor) = launches[1].start(&certs).await;
    let (process, client) = launches[0].start(&certs).await;
    let (mine, theirs) = (random_key(), random_key());
    donor.put(&theirs, b"secret grant").await.unwrap();
    client.put(&mine, b"secret grant").await.unwrap();
    client.invalidate(&mine, "secret reason", None).await.unwrap();
    assert_eq!(client.get(&random_key()).await.unwrap_err().code(), Code::NotFound);
    eventually("it is replicated", || client.has_local(&theirs)).await;
    let wanted = ["Put", "Get", "Invalidate", "group commit", "apply batch", "replication round", "backup"];
    let spans = eventually("all kinds of spans", || async {
        let spans = collector.spans();
        wanted.iter().all(|name| spans.iter().any(|span| span.name == **name)).then_some(spans)
    })
    .await;
    let get = spans.iter().find(|span| span.name == "Get").unwrap();
    assert!(attribute(get, "rpc.code").unwrap().contains("NotFound"), "{get:?}");
    assert!(attribute(get, "role").unwrap().contains("admin"), "{get:?}");
    assert_eq!(get.status.as_ref().unwrap().code(), StatusCode::Ok, "an answer is no fault");
    let batch = spans.iter().find(|span| span.name == "apply batch").unwrap();
    assert!(!batch.parent_span_id.is_empty(), "it belongs to a round: {batch:?}");
    assert!(spans.iter().all(|span| span.events.is_empty()), "log lines are not for collectors");
    // What is left is sent when the process ends.
    let status = process.terminate().0;
    assert!(status.success());
    let bytes = collector.bytes();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("n1"), "whose they are");
    let hex = |key: &[u8]| data_encoding::HEXLOWER.encode(key);
    for secret in ["secret grant", "secret reason", &hex(&mine), &hex(&theirs), "spiffe:"] {
        assert!(!text.contains(secret), "{secret}");
    }
    for key in [&mine, &theirs] {
        assert!(!bytes.windows(8).any(|window| window == &key[..8]), "a key hash");
    }
    assert!(other.terminate().0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_belongs_to_the_trace_of_its_caller() {
    let (certs, home, port) = (Certs::new(), tempfile::tempdir().unwrap(), free_port());
    let collector = Collector::start(port).await;
    let mut launch = Launch::new(&certs, "n1", &home.path().join("n1"));
    // Nothing that begins here is sent.
    traced(&mut launch, port, "0");
    let (process, client) = launch.start(&certs).await;
    client.put(&random_key(), b"g").await.unwrap();
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for parent in [traceparent, "nonsense"] {
        let mut request = Request::new(put_request(&random_key(), b"g"));
        request.metadata_mut().insert("traceparent", parent.parse().unwrap());
        client.kv.clone().put(request).await.unwrap();
    }
    let status = process.terminate().0;
    assert!(status.success());
    let spans = collector.spans();
    assert_eq!(spans.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["Put"]);
    assert_eq!(data_encoding::HEXLOWER.encode(&spans[0].trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(data_encoding::HEXLOWER.encode(&spans[0].parent_span_id), "b7ad6b7169203331");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_one_warning_and_is_used_when_it_comes() {
    let (certs, home, port) = (Certs::new(), tempfile::tempdir().unwrap(), free_port());
    let mut launch = Launch::new(&certs, "n1", &home.path().join("n1"));
    traced(&mut launch, port, "1");
    let (process, client) = launch.start(&certs).await;
    let failed = async |times: usize| {
        let mut before = Page::of(process.http_port).await.unwrap().value(FAILED).unwrap();
        for _ in 0..times {
            client.put(&random_key(), b"g").await.unwrap();
            before = eventually("spans were not sent", || async {
                Page::of(process.http_port).await?.value(FAILED).filter(|now| *now > before)
            })
            .await;
        }
    };
    failed(2).await;
    assert_eq!(process.log().iter().filter(|line| line.contains(WARNING)).count(), 1);
    let collector = Collector::start(port).await;
    eventually("they are sent again", || async {
        client.put(&random_key(), b"g").await.unwrap();
        Page::of(process.http_port).await?.value(SENT).filter(|sent| *sent > 0.0)
    })
    .await;
    assert!(collector.spans().iter().any(|span| span.name == "Put"));
    drop(collector);
    failed(1).await;
    // It does not hold up the end either.
    let (status, log) = process.terminate();
    assert!(status.success(), "{log:?}");
    assert_eq!(
        log.iter().filter(|line| line.contains(WARNING)).count(),
        2,
        "once for each time it went away"
    );
}
