//! Files of /proc, in bytes: names of processes, files and mount points may hold any but a zero.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::str::FromStr;

/// The lines that are not empty.
pub fn lines(text: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// The number in a field.
pub fn number<T: FromStr>(field: &[u8]) -> Option<T> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Decodes the path in a field of mountinfo, where `\040` and so on stand for space, tab, newline and backslash.
pub fn unescaped(path: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, behind)) = rest.split_first() {
        let octal = behind.get(..3).filter(|_| *first == b'\\');
        let code = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn any_byte_may_be_in_a_name() {
        let decoded = |path: &[u8]| unescaped(path).as_os_str().as_bytes().to_vec();
        assert_eq!(decoded(b"/a\\040b\\012\xff"), b"/a b\n\xff");
        assert_eq!(decoded(b"\\9\\04"), b"\\9\\04", "not the kernel's");
        let found: Vec<_> = lines(b"\xff 1\n\nb\n").collect();
        assert_eq!(found, [&b"\xff 1"[..], b"b"]);
        assert_eq!((number::<u32>(b"17"), number::<u32>(b"\xff")), (Some(17), None));
    }
}
