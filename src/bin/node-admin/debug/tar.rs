//! A tar file (POSIX ustar) of some small files.

const BLOCK_BYTES: usize = 512;

/// The files one after the other, readable by their owner alone.
pub(super) fn archive<'a>(files: impl Iterator<Item = &'a (String, Vec<u8>)>, made_unix: u64) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in files {
        archive.extend_from_slice(&header(&format!("brock-debug/{name}"), content.len(), made_unix));
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    // Two empty blocks are the end.
    archive.resize(archive.len() + 2 * BLOCK_BYTES, 0);
    archive
}

fn header(name: &str, bytes: usize, made_unix: u64) -> [u8; BLOCK_BYTES] {
    let mut header = [0; BLOCK_BYTES];
    let mut put = |at: usize, text: &str, room: usize| {
        // Names are ours and short; whatever is longer is cut.
        let length = text.len().min(room);
        header[at..at + length].copy_from_slice(&text.as_bytes()[..length]);
    };
    put(0, name, 100);
    put(100, "0000600\0", 8);
    put(108, "0000000\0", 8);
    put(116, "0000000\0", 8);
    put(124, &format!("{bytes:011o}\0"), 12);
    put(136, &format!("{made_unix:011o}\0"), 12);
    // Blanks while it is summed.
    put(148, "        ", 8);
    put(156, "0", 1);
    put(257, "ustar\0", 6);
    put(263, "00", 2);
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}
