//! The parts of a backup: files of frames with a bounded size. Each is encrypted by itself, so that the
//! `age` tool alone can decrypt it.
//!
//! A decrypted part begins with eight bytes of magic. Then come frames, each after its length (4 bytes,
//! big-endian).

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use age::{Decryptor, Encryptor, Identity, Recipient, stream::StreamWriter, x25519};
use prost::Message;

use super::hashing::Hashing;
use brock_core::{
    base::{advice, limits},
    proto,
};

/// The magic of a decrypted part: name and format version.
const MAGIC: &[u8; 8] = b"BROCKBK\x01";

/// Why parts could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// A file could not be written or read.
    #[error("{action} {}: {source}{}", path.display(), advice::on_file(source))]
    Io {
        /// The file operation.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Its error.
        source: io::Error,
    },
    /// The parts would fill the disk.
    #[error(
        "{free} bytes are free at {}, and {needed} must stay free there besides a backup's parts: free some space",
        path.display(), needed = limits::BACKUP_SPACE_RESERVE_BYTES
    )]
    NoSpace {
        /// The directory.
        path: PathBuf,
        /// The free bytes.
        free: u64,
    },
    /// Encryption failed.
    #[error("encrypting failed: {0}")]
    Encrypt(String),
    /// Decryption failed.
    #[error(
        "{name} does not decrypt: {reason}. Give the identity that belongs to one of the recipients with --identity"
    )]
    Decrypt {
        /// The part.
        name: String,
        /// The error of age.
        reason: String,
    },
    /// The content is malformed.
    #[error("{0} is not a part of a backup: it was damaged or is something else")]
    Malformed(String),
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PartError {
    let path = path.to_owned();
    move |source| PartError::Io { action, path, source }
}

/// A finished part on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedPart {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// SHA-256, hex.
    pub sha256: String,
}

type Out = Hashing<BufWriter<File>>;

enum Sink {
    Plain(Out),
    Sealed(Box<StreamWriter<Out>>),
}

impl Sink {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.write_all(bytes),
            Self::Sealed(out) => out.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<Out> {
        let mut out = match self {
            Self::Plain(out) => out,
            Self::Sealed(out) => out.finish()?,
        };
        out.flush()?;
        Ok(out)
    }
}

/// Writes frames into parts in a directory, with bounded memory. Blocks.
pub struct PartWriter {
    directory: PathBuf,
    recipients: Vec<x25519::Recipient>,
    open: Option<(PathBuf, Sink, usize)>,
    finished: Vec<StagedPart>,
}

impl PartWriter {
    /// Encrypts to these recipients; without any, the parts are not encrypted.
    pub fn new(directory: &Path, recipients: Vec<x25519::Recipient>) -> Self {
        Self { directory: directory.to_owned(), recipients, open: None, finished: Vec::new() }
    }

    /// Adds a frame, in a new part if the open one is large enough.
    pub fn write(&mut self, frame: &proto::BackupFrame) -> Result<(), PartError> {
        let body = frame.encode_to_vec();
        if self.open.as_ref().is_some_and(|(_, _, bytes)| bytes + body.len() > limits::BACKUP_PART_BYTES) {
            self.close()?;
        }
        let (path, mut sink, bytes) = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
        let written = sink.write_all(&length).and_then(|()| sink.write_all(&body));
        written.map_err(io_error("cannot write", &path))?;
        self.open = Some((path, sink, bytes + 4 + body.len()));
        Ok(())
    }

    fn begin(&self) -> Result<(PathBuf, Sink, usize), PartError> {
        let path = self.directory.join(format!("{:05}", self.finished.len() + 1));
        if let Ok(stat) = rustix::fs::statvfs(&self.directory) {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            if free < limits::BACKUP_SPACE_RESERVE_BYTES {
                return Err(PartError::NoSpace { path: self.directory.clone(), free });
            }
        }
        // An unencrypted part is as secret as the records.
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(io_error("cannot create", &path))?;
        let out = Hashing::new(BufWriter::new(file));
        let mut sink = if self.recipients.is_empty() {
            Sink::Plain(out)
        } else {
            let recipients = self.recipients.iter().map(|recipient| recipient as &dyn Recipient);
            let encryptor = Encryptor::with_recipients(recipients)
                .map_err(|error| PartError::Encrypt(error.to_string()))?;
            Sink::Sealed(Box::new(encryptor.wrap_output(out).map_err(io_error("cannot write", &path))?))
        };
        sink.write_all(MAGIC).map_err(io_error("cannot write", &path))?;
        Ok((path, sink, MAGIC.len()))
    }

    fn close(&mut self) -> Result<(), PartError> {
        let Some((path, sink, _)) = self.open.take() else { return Ok(()) };
        let out = sink.finish().map_err(io_error("cannot finish", &path))?;
        self.finished.push(StagedPart { path, bytes: out.bytes(), sha256: out.finish() });
        Ok(())
    }

    /// The finished parts, in order.
    pub fn finish(mut self) -> Result<Vec<StagedPart>, PartError> {
        self.close()?;
        Ok(self.finished)
    }
}

/// Reads the frames of one part. Blocks.
pub struct PartReader {
    name: String,
    reader: Box<dyn Read + Send>,
}

impl PartReader {
    /// Opens a part; `None` for one that is not encrypted.
    pub fn open(path: &Path, name: &str, identity: Option<&x25519::Identity>) -> Result<Self, PartError> {
        let file = BufReader::new(File::open(path).map_err(io_error("cannot read", path))?);
        let mut reader: Box<dyn Read + Send> = match identity {
            None => Box::new(file),
            Some(identity) => {
                let failed = |error: age::DecryptError| PartError::Decrypt {
                    name: name.to_owned(),
                    reason: error.to_string(),
                };
                let decryptor = Decryptor::new_buffered(file).map_err(failed)?;
                Box::new(decryptor.decrypt(std::iter::once(identity as &dyn Identity)).map_err(failed)?)
            }
        };
        let mut magic = [0; MAGIC.len()];
        let malformed = || PartError::Malformed(name.to_owned());
        reader.read_exact(&mut magic).map_err(|_| malformed())?;
        if magic != *MAGIC {
            return Err(malformed());
        }
        Ok(Self { name: name.to_owned(), reader })
    }

    /// The next frame; `None` at the end.
    pub fn next_frame(&mut self) -> Result<Option<proto::BackupFrame>, PartError> {
        let malformed = || PartError::Malformed(self.name.clone());
        let mut length = [0; 4];
        match self.reader.read(&mut length[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => self.reader.read_exact(&mut length[1..]).map_err(|_| malformed())?,
            Err(_) => return Err(malformed()),
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > limits::MESSAGE_MAX_BYTES {
            return Err(malformed());
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).map_err(|_| malformed())?;
        proto::BackupFrame::decode(body.as_slice()).map(Some).map_err(|_| malformed())
    }
}
