//! Reading files that others provide: a file that is none, or that does not answer, must not hang the reader.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
    sync::mpsc,
    thread,
};

use rustix::{fs::OFlags, io::Errno};

use brock_core::base::limits;

/// Opens a regular file to read it. Anything else is refused by its kind: opening a FIFO would wait for a writer.
pub fn regular(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path);
    let kind = match &opened {
        Ok(file) => file.metadata()?.file_type(),
        // A socket cannot be opened.
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
            fs::metadata(path)?.file_type()
        }
        Err(_) => return opened,
    };
    let kind = match kind {
        kind if kind.is_file() => return opened,
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {kind}, not a regular file")))
}

/// Reads a text file, or a pipe that a shell provides, for a command that has no runtime yet. Fails if it has
/// not ended within [`limits::FILE_ANSWER_TIMEOUT`]; its thread is abandoned then.
pub fn text(path: &Path) -> io::Result<String> {
    let (done, read) = mpsc::sync_channel(1);
    let path = path.to_owned();
    thread::Builder::new().name("brock-reading".to_owned()).spawn(move || {
        // The reader may have stopped waiting.
        let _ = done.send(File::open(path).and_then(bounded));
    })?;
    read.recv_timeout(limits::FILE_ANSWER_TIMEOUT).unwrap_or_else(|_| {
        let seconds = limits::FILE_ANSWER_TIMEOUT.as_secs();
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!(
                "it has not answered for {seconds} s: is it a FIFO without a writer, or on a file system that is gone?"
            ),
        ))
    })
}

fn bounded(file: File) -> io::Result<String> {
    let mut text = String::new();
    file.take(limits::TEXT_FILE_MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limits::TEXT_FILE_MAX_BYTES {
        let problem = format!("it has more than {} bytes", limits::TEXT_FILE_MAX_BYTES);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn what_is_no_regular_file_is_refused_by_its_kind() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        fs::write(at("file"), "content").unwrap();
        mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let _listener = UnixListener::bind(at("socket")).unwrap();
        assert_eq!(io::read_to_string(regular(&at("file")).unwrap()).unwrap(), "content");
        for (path, kind) in [
            (at("fifo"), "a FIFO"),
            (at("socket"), "a socket"),
            (home.path().to_owned(), "a directory"),
            ("/dev/null".into(), "a device"),
        ] {
            let error = regular(&path).unwrap_err().to_string();
            assert!(error.contains(kind), "{path:?}: {error}");
        }
        assert_eq!(regular(&at("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
