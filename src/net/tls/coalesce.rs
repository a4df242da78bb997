//! Combines the small writes of one poll of a connection into one write.
//!
//! HTTP/2 flushes between the body of an answer and its trailers, so each unary call would cost two TLS
//! records, two system calls and two packets: most of the cost of a short answer. Here a flush is delayed
//! until the connection is polled again, which the flush requests at once. By then the trailers, and the
//! answers of other calls, are in the buffer too.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use brock_core::base::limits;

/// A stream whose flushes wait for the next read.
///
/// Contract: bytes keep their order. Flushed bytes are written at the next `poll_read` (the flush wakes the
/// task) or `poll_shutdown`; the owner must keep reading, as HTTP/2 does. At most
/// [`limits::COALESCE_BYTES`] are buffered; a further write waits for the socket.
#[derive(Debug)]
pub(crate) struct Coalesce<S> {
    inner: S,
    buffer: BytesMut,
    is_due: bool,
}

impl<S: AsyncWrite + Unpin> Coalesce<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, buffer: BytesMut::new(), is_due: false }
    }

    pub(crate) fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Writes the whole buffer.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.buffer.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.buffer))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.buffer.advance(written);
        }
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.is_due = false;
        Poll::Ready(Ok(()))
    }

    /// Waits until the buffer has room, and copies as much of `slices` as fits.
    fn poll_fill(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.buffer.len() >= limits::COALESCE_BYTES {
            ready!(self.poll_drain(cx))?;
        }
        let before = self.buffer.len();
        for slice in slices {
            let room = limits::COALESCE_BYTES - self.buffer.len();
            self.buffer.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        Poll::Ready(Ok(self.buffer.len() - before))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Coalesce<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A full socket must not stop reads: the drain is tried again when the socket wakes this task.
        if self.is_due
            && let Poll::Ready(Err(error)) = self.poll_drain(cx)
        {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.inner).poll_read(cx, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Coalesce<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_fill(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_fill(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.buffer.is_empty() && !self.is_due {
            self.is_due = true;
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn flushed_bytes_go_out_together_at_the_next_read_and_in_order() {
        let (near, mut far) = duplex(1024 * 1024);
        let mut near = Coalesce::new(near);
        near.write_all(b"head ").await.unwrap();
        near.flush().await.unwrap();
        near.write_all(b"tail").await.unwrap();
        near.flush().await.unwrap();
        let mut got = [0; 64];
        let early = std::future::poll_fn(|cx| {
            let mut into = ReadBuf::new(&mut got);
            Poll::Ready(Pin::new(&mut far).poll_read(cx, &mut into).is_ready())
        });
        assert!(!early.await, "nothing is written before the next read");
        far.write_all(b"x").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'x');
        let read = far.read(&mut got).await.unwrap();
        assert_eq!(&got[..read], b"head tail");
    }

    #[tokio::test]
    async fn large_and_many_writes_arrive_whole_through_a_narrow_pipe() {
        let (near, mut far) = duplex(100);
        let mut near = Coalesce::new(near);
        let sent: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        let expected = sent.clone();
        let reader = async move {
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.unwrap();
            got
        };
        let writer = async move {
            for chunk in sent.chunks(12_345) {
                near.write_all(chunk).await.unwrap();
                near.flush().await.unwrap();
            }
            near.shutdown().await.unwrap();
        };
        let ((), got) = tokio::join!(writer, reader);
        assert!(got == expected);
    }
}
