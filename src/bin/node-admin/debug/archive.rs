//! The tar file of a bundle, compressed if its name asks for it.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use tar::{Builder, Header};

/// Writes the parts into `file`, readable by their owner only, and syncs it.
pub(super) fn write<'a>(
    mut file: File,
    name: &Path,
    parts: impl Iterator<Item = &'a (String, Vec<u8>)>,
    made_unix: u64,
) -> io::Result<()> {
    if is_compressed(name) {
        let mut encoder = GzEncoder::new(&mut file, Compression::default());
        append(&mut encoder, parts, made_unix)?;
        encoder.finish()?;
    } else {
        append(&mut file, parts, made_unix)?;
    }
    file.sync_all()
}

fn append<'a>(
    out: impl Write,
    parts: impl Iterator<Item = &'a (String, Vec<u8>)>,
    made_unix: u64,
) -> io::Result<()> {
    let mut archive = Builder::new(out);
    for (name, content) in parts {
        let mut header = Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(made_unix);
        archive.append_data(&mut header, format!("brock-debug/{name}"), content.as_slice())?;
    }
    archive.finish()
}

fn is_compressed(name: &Path) -> bool {
    name.extension().is_some_and(|extension| extension == "gz" || extension == "tgz")
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read};

    use super::*;

    #[test]
    fn the_name_decides_whether_the_parts_are_compressed() {
        let directory = tempfile::tempdir().unwrap();
        let parts = [("a.json".to_owned(), b"{}".to_vec()), ("b.txt".to_owned(), vec![b'x'; 100_000])];
        for (name, is_small) in [("x.tar", false), ("x.tar.gz", true), ("x.tgz", true)] {
            let path = directory.path().join(name);
            write(File::create(&path).unwrap(), &path, parts.iter(), 1_777_636_800).unwrap();
            let bytes = fs::read(&path).unwrap();
            assert_eq!(bytes.len() < 10_000, is_small, "{name}: {}", bytes.len());
            let mut plain = Vec::new();
            match is_small {
                true => flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut plain).map(drop).unwrap(),
                false => plain = bytes,
            }
            let mut archive = tar::Archive::new(&plain[..]);
            let read = archive.entries().unwrap().map(|entry| {
                let mut entry = entry.unwrap();
                assert_eq!(entry.header().mode().unwrap(), 0o600);
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                (entry.path().unwrap().display().to_string(), content)
            });
            let expected =
                parts.iter().map(|(name, content)| (format!("brock-debug/{name}"), content.clone()));
            assert_eq!(read.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{name}");
        }
    }
}
