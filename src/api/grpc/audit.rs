//! Records operators' calls in the audit log: a change before it is carried out, and the outcome of every
//! call. A call that cannot be recorded is refused. Works for every call, streams included; `calls` says how
//! each is recorded and what is shown of it.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::{Body as HttpBody, Frame};
use tonic::{Code, Status, body::Body};
use tower::Service;

use super::{
    calls::Recorded,
    shown::{self, Show},
};
use crate::audit::{
    entry::{Draft, Kind, What, Who},
    log::AuditLog,
};
use brock_core::base::limits;
use brock_net::tls::{accept::ConnectionInfo, roles::PeerIdentity};

/// Before the message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// Who makes a call, as the log shows it.
pub(crate) fn who(info: &ConnectionInfo) -> Who {
    who_from(&info.identity, info.remote.to_string())
}

fn who_from(identity: &PeerIdentity, from: String) -> Who {
    Who {
        role: identity.role.to_string(),
        name: identity.name.clone(),
        domain: identity.trust_domain.clone(),
        serial: identity.serial.clone(),
        certificate: identity.fingerprint.clone(),
        from,
    }
}

/// A call that was denied.
pub(crate) fn denied(audit_log: &AuditLog, info: Option<&ConnectionInfo>, method: &str, code: Code) {
    if audit_log.is_kept() {
        audit_log.denied(Draft {
            who: info.map(who),
            method: Some(method.to_owned()),
            outcome: Some(format!("{code:?}")),
            ..Draft::note(Kind::Denied, What::new())
        });
    }
}

/// Carries out an operator's order that a node has passed on, and records it as the operator's.
pub(crate) async fn on_behalf(
    audit_log: &AuditLog,
    operator: &PeerIdentity,
    info: Option<&ConnectionInfo>,
    (method, member): (&'static str, &str),
    action: impl Future<Output = Result<(), Status>>,
) -> Result<(), Status> {
    if !audit_log.is_kept() {
        return action.await;
    }
    let from = info.map(|info| format!("{} at {}", info.identity, info.remote)).unwrap_or_default();
    let what: What = std::iter::once(("member".to_owned(), shown::text(member))).collect();
    let intent = Draft {
        who: Some(who_from(operator, from)),
        method: Some(method.to_owned()),
        call: audit_log.next_call(),
        ..Draft::note(Kind::Intent, what)
    };
    let outcome = Draft { kind: Kind::Outcome, what: What::new(), ..intent.clone() };
    audit_log.write(intent).await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut ending = Ending::new(audit_log.clone(), outcome);
    let done = action.await;
    ending.settle(done.as_ref().map_or_else(Status::code, |()| Code::Ok), What::new());
    // It was carried out, so the answer stays even if this line cannot be written.
    let _ = audit_log.write_late(|| ending.draft.take()).await;
    done
}

/// Makes a call, and records it.
pub(crate) async fn call<S>(
    audit_log: AuditLog,
    recorded: Recorded,
    method: &'static str,
    info: Option<ConnectionInfo>,
    mut inner: S,
    request: Request<Body>,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    let (show, answer) = match recorded {
        Recorded::Read(show) => (show, None),
        Recorded::Change(show, answer) => (show, Some(Answer::Message(answer))),
        Recorded::Stream(show) => (show, Some(Answer::Stream)),
        Recorded::No => return inner.call(request).await,
    };
    if !audit_log.is_kept() {
        return inner.call(request).await;
    }
    let (parts, body) = request.into_parts();
    let (message, body) = first_message(body).await;
    let request = Request::from_parts(parts, body);
    let what = match &message {
        Some(message) => shown::message(show, message),
        None => shown::remark("too large, compressed, or none"),
    };
    let draft = Draft {
        who: info.as_ref().map(who),
        method: Some(method.to_owned()),
        ..Draft::note(Kind::Read, what)
    };
    match answer {
        None => read(audit_log, draft, inner, request).await,
        Some(answer) => change(audit_log, draft, answer, inner, request).await,
    }
}

/// How a call that changes something answers.
enum Answer {
    Message(Show),
    Stream,
}

/// One line, before the answer goes out.
async fn read<S>(
    audit_log: AuditLog,
    draft: Draft,
    mut inner: S,
    request: Request<Body>,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    let mut ending = Ending::new(audit_log.clone(), draft);
    let response = inner.call(request).await?;
    let Some(draft) = ending.take(code_of(response.headers()), What::new()) else {
        return Ok(response);
    };
    Ok(match audit_log.read(draft).await {
        Ok(()) => response,
        Err(error) => Status::unavailable(error.to_string()).into_http(),
    })
}

/// One line before the call is carried out, and one when it is over.
async fn change<S>(
    audit_log: AuditLog,
    draft: Draft,
    answer: Answer,
    mut inner: S,
    request: Request<Body>,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<Body>>,
{
    let intent = Draft { kind: Kind::Intent, call: audit_log.next_call(), ..draft };
    let outcome = Draft { kind: Kind::Outcome, what: not_begun(), ..intent.clone() };
    let mut ending = Ending::new(audit_log.clone(), outcome);
    if let Err(error) = audit_log.write(intent).await {
        let left = ending.take(Code::Unavailable, not_begun());
        if let Some(left) = left.filter(|_| error.perhaps_later) {
            audit_log.leave(left);
        }
        return Ok(Status::unavailable(error.to_string()).into_http());
    }
    ending.begin();
    let response = inner.call(request).await?;
    let code = code_of(response.headers());
    let show = match answer {
        Answer::Stream if code == Code::Ok => {
            return Ok(response.map(|body| Body::new(Watched { body, ending })));
        }
        Answer::Stream => shown::nothing,
        Answer::Message(show) => show,
    };
    let (parts, body) = response.into_parts();
    let (message, body) = first_message(body).await;
    ending.settle(code, message.and_then(|message| show(&message).ok()).unwrap_or_default());
    // The call was carried out, so its answer stays even if this line cannot be written. The log then counts
    // as not writable, and the next call is refused.
    let _ = audit_log.write_late(|| ending.draft.take()).await;
    Ok(Response::from_parts(parts, body))
}

fn not_begun() -> What {
    std::iter::once(("begun".to_owned(), false.into())).collect()
}

/// The code of a response that has begun, as far as its headers say: no status in them means success.
fn code_of(headers: &HeaderMap) -> Code {
    headers.get(Status::GRPC_STATUS).map_or(Code::Ok, |code| Code::from_bytes(HeaderValue::as_bytes(code)))
}

/// The line that is due when a call is over, also when the caller hangs up.
struct Ending {
    audit_log: AuditLog,
    draft: Option<Draft>,
}

impl Ending {
    fn new(audit_log: AuditLog, draft: Draft) -> Self {
        Self { audit_log, draft: Some(draft) }
    }

    /// From here on the call may have been carried out.
    fn begin(&mut self) {
        if let Some(draft) = &mut self.draft {
            draft.what = What::new();
        }
    }

    /// The line; after that, none is due.
    fn take(&mut self, code: Code, done: What) -> Option<Draft> {
        self.settle(code, done);
        self.draft.take()
    }

    /// Sets how the call ended. The first outcome stays.
    fn settle(&mut self, code: Code, done: What) {
        if let Some(draft) = &mut self.draft
            && draft.outcome.is_none()
        {
            draft.outcome = Some(format!("{code:?}"));
            draft.what.extend(done);
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(draft) = self.take(Code::Cancelled, What::new()) {
            self.audit_log.leave(draft);
        }
    }
}

/// A stream of answers: the call is over when it ends.
struct Watched {
    body: Body,
    ending: Ending,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let code = match &polled {
            Poll::Pending => None,
            Poll::Ready(None) => Some(Code::Ok),
            Poll::Ready(Some(Err(status))) => Some(status.code()),
            Poll::Ready(Some(Ok(frame))) => frame.trailers_ref().map(code_of),
        };
        if let Some(code) = code
            && let Some(draft) = self.ending.take(code, What::new())
        {
            self.ending.audit_log.leave(draft);
        }
        polled
    }
}

/// Reads the first message of a body, if it has at most [`limits::AUDIT_REQUEST_MAX_BYTES`], and returns the
/// body whole.
async fn first_message(mut body: Body) -> (Option<Bytes>, Body) {
    let mut front = VecDeque::new();
    let mut bytes = BytesMut::new();
    let message = loop {
        if let Some(length) = length_of(&bytes) {
            if length > limits::AUDIT_REQUEST_MAX_BYTES || bytes[0] != 0 {
                break None;
            }
            if bytes.len() >= PREFIX_BYTES + length {
                bytes.advance(PREFIX_BYTES);
                break Some(bytes.split_to(length).freeze());
            }
        }
        match poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            None => break None,
            Some(frame) => {
                let failed = frame.is_err();
                if let Ok(Some(data)) = frame.as_ref().map(Frame::data_ref) {
                    bytes.extend_from_slice(data);
                }
                front.push_back(frame);
                if failed {
                    break None;
                }
            }
        }
    };
    (message, Body::new(Replayed { front, rest: body }))
}

fn length_of(bytes: &[u8]) -> Option<usize> {
    let prefix = bytes.get(1..PREFIX_BYTES)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(prefix)).ok()
}

/// A body whose first frames were read already.
struct Replayed {
    front: VecDeque<Result<Frame<Bytes>, Status>>,
    rest: Body,
}

impl HttpBody for Replayed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.front.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }

    /// IMPORTANT: an error has no body, and its status is in the headers, which must then end the stream. gRPC's own
    /// libraries take an empty frame behind them for a broken stream, and report that instead of the error.
    fn is_end_stream(&self) -> bool {
        self.front.is_empty() && self.rest.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::log::Options,
        runtime::alarms::Alarms,
        store::{self, Store},
    };
    use brock_core::base::time::WallClock;
    use brock_net::task::Tasks;

    async fn bytes_of(mut body: Body) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            bytes.extend(frame.unwrap().into_data().unwrap());
        }
        bytes
    }

    fn body(frames: &[&[u8]]) -> Body {
        let front = frames.iter().map(|frame| Ok(Frame::data(Bytes::copy_from_slice(frame)))).collect();
        Body::new(Replayed { front, rest: Body::empty() })
    }

    #[tokio::test]
    async fn the_first_message_is_read_however_it_comes_and_the_body_stays_whole() {
        let whole = b"\0\0\0\0\x03abc\0\0\0\0\x01d";
        for cut in 0..whole.len() {
            let (left, right) = whole.split_at(cut);
            let (message, rest) = first_message(body(&[left, right])).await;
            assert_eq!(message.as_deref(), Some(&b"abc"[..]), "{cut}");
            assert_eq!(bytes_of(rest).await, whole, "{cut}");
        }
        for (bytes, expected) in [
            (&b""[..], None),
            (b"\0\0\0\0\0", Some(&b""[..])),
            (b"\x01\0\0\0\x01a", None),
            (b"\0\xff\xff\xff\xffa", None),
            (b"\0\0\0\0\x05ab", None),
        ] {
            let (message, rest) = first_message(body(&[bytes])).await;
            assert_eq!(message.as_deref(), expected, "{bytes:?}");
            assert_eq!(bytes_of(rest).await, bytes);
        }
    }

    #[tokio::test]
    async fn the_headers_of_an_error_end_the_stream() {
        let error = Status::failed_precondition("no").into_http::<Body>();
        let (message, rest) = first_message(error.into_body()).await;
        assert!(message.is_none() && rest.is_end_stream());
        let (message, rest) = first_message(body(&[b"\0\0\0\0\0"])).await;
        assert!(message.is_some() && !rest.is_end_stream());
    }

    /// A stream of answers that ends with this code.
    fn stream(code: &'static str) -> Response<Body> {
        let mut trailers = HeaderMap::new();
        trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static(code));
        let front = [Frame::data(Bytes::from_static(b"a")), Frame::trailers(trailers)].map(Ok);
        Response::new(Body::new(Replayed { front: front.into(), rest: Body::empty() }))
    }

    #[tokio::test]
    async fn a_call_with_a_stream_of_answers_is_over_when_the_stream_is() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&store::Options::ram("node-1".parse().unwrap())).unwrap();
        let tasks = Tasks::default();
        let wall_clock = WallClock::system();
        let alarms = Alarms::new(wall_clock.clone());
        let options =
            Options { directory: directory.path().to_owned(), max_bytes: 1 << 20, wall_clock, alarms };
        let audit_log = AuditLog::open(options, &store, &tasks).await;
        let mut endings = Vec::new();
        for (code, read) in [("0", 2), ("13", 2), ("0", 1)] {
            let inner = tower::service_fn(async move |_: Request<Body>| Ok::<_, Status>(stream(code)));
            let request = Request::new(body(&[b"\0\0\0\0\0"]));
            let response =
                call(audit_log.clone(), Recorded::Stream(shown::nothing), "Tail", None, inner, request)
                    .await
                    .unwrap();
            let mut answers = response.into_body();
            for _ in 0..read {
                poll_fn(|context| Pin::new(&mut answers).poll_frame(context)).await.unwrap().unwrap();
            }
            endings.push(answers);
        }
        // The third one is not over until its reader drops it.
        audit_log.write(Draft::note(Kind::Read, What::new())).await.unwrap();
        drop(endings);
        drop(audit_log);
        assert!(tasks.stop(std::time::Duration::from_secs(10)).await);
        let file = directory.path().join("audit-00000001.jsonl");
        let mut told = Vec::new();
        crate::audit::verify::read(&file, |line| told.push((line.kind, line.call, line.outcome.clone())))
            .unwrap();
        let outcome = |call, code: &str| (Kind::Outcome, Some(call), Some(code.to_owned()));
        let intent = |call| (Kind::Intent, Some(call), None);
        assert_eq!(
            told[2..],
            [
                intent(1),
                outcome(1, "Ok"),
                intent(2),
                outcome(2, "Internal"),
                intent(3),
                (Kind::Read, None, None),
                outcome(3, "Cancelled"),
                (Kind::Stop, None, None)
            ]
        );
        tokio::task::spawn_blocking(move || store.close()).await.unwrap().unwrap();
    }
}
