//! SHA-256 of the bytes that pass through a writer.

use std::io::{self, Write};

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::HEXLOWER;

/// Hashes and counts what is written through it.
pub(super) struct Hashing<W> {
    inner: W,
    hash: Context,
    bytes: u64,
}

impl<W: Write> Hashing<W> {
    /// Passes all bytes on to `inner`.
    pub(super) fn new(inner: W) -> Self {
        Self { inner, hash: Context::new(&SHA256), bytes: 0 }
    }

    /// The number of bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Their hash, hex.
    pub(super) fn finish(self) -> String {
        HEXLOWER.encode(self.hash.finish().as_ref())
    }
}

impl Hashing<io::Sink> {
    /// Only hashes and counts.
    pub(super) fn only() -> Self {
        Self::new(io::sink())
    }

    /// Hashes and counts more bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
