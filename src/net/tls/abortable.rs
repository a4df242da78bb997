//! A stream that the connection registry can close.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{registry::Registration, shares::Usage};

/// A stream whose reads and writes fail once its registration is aborted.
///
/// Writes fail too: a peer that does not read must not keep its connection that way.
#[derive(Debug)]
pub(crate) struct AbortableStream<S> {
    stream: S,
    registered: Option<Registered>,
    usage: Option<Arc<Usage>>,
}

struct Registered {
    registration: Registration,
    aborted: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.registration.fmt(f)
    }
}

impl<S> AbortableStream<S> {
    /// Without a registration the stream is never aborted.
    pub(crate) fn new(stream: S, registration: Option<Registration>) -> Self {
        let registered = registration.map(|registration| {
            let aborted = Box::pin(registration.abort().clone().cancelled_owned());
            Registered { registration, aborted }
        });
        Self { stream, registered, usage: None }
    }

    /// Notes in `usage` when the stream is used.
    pub(crate) fn noting(mut self, usage: Arc<Usage>) -> Self {
        self.usage = Some(usage);
        self
    }

    fn note(&self, bytes: usize) {
        if let Some(usage) = &self.usage {
            usage.note(bytes);
        }
    }

    /// Whether certificates were rotated since the handshake.
    pub(crate) fn is_outdated(&self) -> bool {
        self.registered.as_ref().is_some_and(|registered| registered.registration.is_outdated())
    }

    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(registered) = &mut self.registered else { return Ok(()) };
        match registered.aborted.as_mut().poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => {
                let reason = "this connection gives its place to another one, or its certificates are no longer trusted or used";
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AbortableStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.note(buffer.filled().len() - before);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AbortableStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            self.note(written);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(written)) = polled {
            self.note(written);
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
