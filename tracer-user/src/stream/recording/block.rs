//! The container of a recording: a head that says what the file is, and blocks with checksums.
//!
//! ```text
//! file  = head block*
//! head  = 89 'G' 'M' 'P' 'S' 0d 0a 1a   version: u32
//! block = stored: u32   raw: u32   crc: u32   stored bytes
//! ```
//!
//! All numbers are little-endian. `stored` is the length in the file, `raw` that of the contents; where both are
//! equal the contents are stored as they are, otherwise as one LZ4 block. `crc` is the CRC-32 (IEEE) of the two lengths
//! and the stored bytes.

use std::io::{self, Read};

/// The first bytes of a recording. As in PNG, the first byte is not text, and the line ends reveal a file that was
/// copied as text.
pub const MAGIC: [u8; 8] = *b"\x89GMPS\r\n\x1a";
/// The version of the format that is written, and the only one that is read.
pub const VERSION: u32 = 1;
/// Largest contents of a block. What is longer was not written by us.
pub const MOST_RAW: usize = 1 << 20;
/// Bytes before the contents.
const BLOCK_HEAD: usize = 12;

/// Returns the head of a file.
pub fn head() -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&VERSION.to_le_bytes());
    head
}

/// Returns a block with these contents, which are at most [`MOST_RAW`] bytes, and at least one.
pub fn seal(raw: &[u8]) -> Vec<u8> {
    let compressed = lz4_flex::block::compress(raw);
    let stored = if compressed.len() < raw.len() {
        &compressed
    } else {
        raw
    };
    let lengths = [stored.len() as u32, raw.len() as u32];
    let mut block = Vec::with_capacity(BLOCK_HEAD + stored.len());
    lengths
        .iter()
        .for_each(|length| block.extend_from_slice(&length.to_le_bytes()));
    block.extend_from_slice(&checksum(lengths, stored).to_le_bytes());
    block.extend_from_slice(stored);
    block
}

fn checksum([stored, raw]: [u32; 2], bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&stored.to_le_bytes());
    crc.update(&raw.to_le_bytes());
    crc.update(bytes);
    crc.finalize()
}

/// The next block of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The contents of a block.
    Raw(Vec<u8>),
    /// The file ends after a complete block.
    End,
    /// The file ends within a block, or this block is damaged. The rest of the file is not read.
    Broken(&'static str),
    /// The block matches its checksum, but was not written by gmpscope.
    Hostile(&'static str),
}

/// Reads the format's version from the head of a file; `None` if the file is not a recording.
///
/// # Errors
/// The file cannot be read.
pub fn version(file: &mut impl Read) -> io::Result<Option<u32>> {
    let mut head = [0; MAGIC.len() + 4];
    let length = fill(file, &mut head)?;
    let magic = head.strip_prefix(&MAGIC).filter(|_| length == head.len());
    let version = magic.and_then(|version| version.try_into().ok());
    Ok(version.map(u32::from_le_bytes))
}

/// Reads the next block. Takes memory for one block at most: its stored bytes and its contents.
///
/// # Errors
/// The file cannot be read.
pub fn next(file: &mut impl Read) -> io::Result<Next> {
    let mut head = [0; BLOCK_HEAD];
    match fill(file, &mut head)? {
        0 => return Ok(Next::End),
        BLOCK_HEAD => {}
        _ => return Ok(Next::Broken("it ends within the head of a block")),
    }
    let [a, b, c, d, e, f, g, h, i, j, k, l] = head;
    let lengths = [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])];
    let crc = u32::from_le_bytes([i, j, k, l]);
    let [stored, raw] = lengths.map(|length| length as usize);
    if stored == 0 || stored > raw || raw > MOST_RAW {
        return Ok(Next::Broken("the lengths of a block are impossible"));
    }
    let mut bytes = vec![0; stored];
    if fill(file, &mut bytes)? != stored {
        return Ok(Next::Broken("it ends within a block"));
    }
    if checksum(lengths, &bytes) != crc {
        return Ok(Next::Broken("a block does not match its checksum"));
    }
    if stored == raw {
        return Ok(Next::Raw(bytes));
    }
    // `raw` is the size of the buffer: a block that would exceed it fails.
    match lz4_flex::block::decompress(&bytes, raw) {
        Ok(contents) if contents.len() == raw => Ok(Next::Raw(contents)),
        _ => Ok(Next::Hostile("a block cannot be decompressed")),
    }
}

/// Reads until the buffer is full or the file ends. Returns how many bytes were read.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_come_back_compressed_or_not() {
        let noise: Vec<u8> = (0..1000u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        for raw in [vec![7; MOST_RAW], noise, vec![1]] {
            let block = seal(&raw);
            assert_eq!(next(&mut block.as_slice()).unwrap(), Next::Raw(raw));
        }
        assert!(seal(&[0; 10_000]).len() < 100);
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = lz4_flex::block::compress(&vec![0; MOST_RAW]);
        for raw in [bomb.len() as u32 + 1, MOST_RAW as u32 - 1] {
            let lengths = [bomb.len() as u32, raw];
            let mut block: Vec<u8> = lengths.iter().flat_map(|length| length.to_le_bytes()).collect();
            block.extend_from_slice(&checksum(lengths, &bomb).to_le_bytes());
            block.extend_from_slice(&bomb);
            assert!(
                matches!(next(&mut block.as_slice()).unwrap(), Next::Hostile(_)),
                "{raw}"
            );
        }
        let mut large = seal(&[1, 2, 3]);
        large.get_mut(4..8).unwrap().fill(0xff);
        assert!(matches!(next(&mut large.as_slice()).unwrap(), Next::Broken(_)));
    }
}
