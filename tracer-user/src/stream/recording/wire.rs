//! Compact encodings of numbers, texts and flags: LEB128 varints, zigzag for what may be negative.

/// Why contents were not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// They do not follow the format: they were not written by gmpscope.
    Malformed(&'static str),
    /// They may have been written by a later version.
    Unknown,
}

/// The result of decoding.
pub type Read<T> = Result<T, Trouble>;

/// A function that appends the contents of a record.
pub type Append<'a> = &'a mut dyn FnMut(&mut Vec<u8>);

/// Appends an unsigned number: seven bits per byte, the lowest first, the top bit set in all but the last.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the signed difference of two numbers.
pub fn put_difference(out: &mut Vec<u8>, value: u64, from: u64) {
    let difference = value.wrapping_sub(from).cast_signed();
    put(out, ((difference << 1) ^ (difference >> 63)).cast_unsigned());
}

/// Appends the length of a text in bytes, and the text.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Appends a number if there is one. Whether there is one must be encoded elsewhere.
pub fn put_some(out: &mut Vec<u8>, value: Option<u64>) {
    if let Some(value) = value {
        put(out, value);
    }
}

/// Appends how many items there are, and then each of them by `append`, which gets the one before it as well: many encode
/// only what they differ in. Before the first is the default.
pub fn put_list<T: Copy + Default>(out: &mut Vec<u8>, items: &[T], append: impl Fn(&mut Vec<u8>, T, T)) {
    put(out, items.len() as u64);
    let mut last = T::default();
    for item in items {
        append(out, *item, last);
        last = *item;
    }
}

/// Returns four flags in one byte, the first in bit 0.
pub fn flags(set: [bool; 4]) -> u8 {
    set.iter()
        .rev()
        .fold(0, |flags, flag| flags << 1 | u8::from(*flag))
}

/// A cursor over bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how many bytes are left.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Reads the next byte.
    pub fn byte(&mut self) -> Read<u8> {
        let (first, rest) = self
            .0
            .split_first()
            .ok_or(Trouble::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*first)
    }

    /// Reads the next `n` bytes.
    pub fn take(&mut self, n: u64) -> Read<&'a [u8]> {
        let n = usize::try_from(n).map_err(|_| Trouble::Malformed("a length is past all bounds"))?;
        let (taken, rest) = self
            .0
            .split_at_checked(n)
            .ok_or(Trouble::Malformed("a length is past the end"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// Reads what [`put`] wrote.
    pub fn number(&mut self) -> Read<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Trouble::Malformed("a number has more than 64 bits"))
    }

    /// Reads what [`put`] wrote, where it must fit into a smaller type.
    pub fn small<T: TryFrom<u64>>(&mut self) -> Read<T> {
        T::try_from(self.number()?).map_err(|_| Trouble::Malformed("a number is too large"))
    }

    /// Reads what [`put_difference`] wrote.
    pub fn difference(&mut self, from: u64) -> Read<u64> {
        let coded = self.number()?;
        let difference = (coded >> 1) ^ (coded & 1).wrapping_neg();
        Ok(from.wrapping_add(difference))
    }

    /// Reads what [`flags`] returned.
    pub fn flags(&mut self) -> Read<[bool; 4]> {
        let flags = self.byte()?;
        Ok([1, 2, 4, 8].map(|flag| flags & flag != 0))
    }

    /// Reads what [`put_text`] wrote.
    pub fn text(&mut self) -> Read<&'a str> {
        let length = self.number()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| Trouble::Malformed("a text is not UTF-8"))
    }

    /// Reads the items that [`put_list`] wrote, of which there are `many`, and adds them to `items`. Their number must have
    /// been read before, and found to be possible.
    pub fn list<T: Copy + Default>(
        &mut self,
        many: usize,
        items: &mut Vec<T>,
        read: impl Fn(&mut Self, T) -> Read<T>,
    ) -> Read<()> {
        let mut last = T::default();
        for _ in 0..many {
            last = read(self, last)?;
            items.push(last);
        }
        Ok(())
    }

    /// Reads what [`put_some`] wrote, if it wrote a number.
    pub fn some(&mut self, there: bool) -> Read<Option<u64>> {
        there.then(|| self.number()).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(value: u64, from: u64, text: String) {
            let mut out = Vec::new();
            put(&mut out, value);
            put_difference(&mut out, value, from);
            put_text(&mut out, &text);
            let mut bytes = Bytes(&out);
            prop_assert_eq!(bytes.number(), Ok(value));
            prop_assert_eq!(bytes.difference(from), Ok(value));
            prop_assert_eq!(bytes.text(), Ok(text.as_str()));
            prop_assert!(bytes.is_empty());
        }

        #[test]
        fn items_are_read_as_they_were_written(written: Vec<u64>) {
            let mut out = Vec::new();
            put_list(&mut out, &written, put_difference);
            let mut bytes = Bytes(&out);
            let (many, mut read) = (bytes.small().unwrap(), Vec::new());
            prop_assert_eq!(bytes.list(many, &mut read, Bytes::difference), Ok(()));
            prop_assert_eq!(read, written);
            prop_assert!(bytes.is_empty());
        }

        #[test]
        fn near_numbers_take_few_bytes(from: u64, step in -63i64..64) {
            let mut out = Vec::new();
            put_difference(&mut out, from.wrapping_add_signed(step), from);
            prop_assert_eq!(out.len(), 1);
        }
    }

    #[test]
    fn overlong_numbers_are_refused() {
        for bytes in [&[0xff; 10][..], &[0x80; 11][..], &[0x80, 0x80][..]] {
            assert!(Bytes(bytes).number().is_err(), "{bytes:x?}");
        }
        assert!(Bytes(&[5, b'a']).text().is_err());
        assert!(Bytes(&[1, 0xff]).text().is_err());
    }
}
