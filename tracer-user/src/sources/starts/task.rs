//! Offsets of fields in the running kernel's `task_struct`, from the kernel's own description of its types (BTF,
//! `/sys/kernel/btf/vmlinux`; Documentation/bpf/btf.rst).
//!
//! aya would parse all of it into 30 MB; for a few offsets one walk over the bytes is enough.

use std::fs;

/// Where the kernel describes its types.
const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";
/// How deep anonymous structs may be nested.
const DEEPEST: usize = 8;

/// Offsets in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskOffsets {
    /// `pid`: the thread's id.
    pub pid: u32,
    /// `tgid`: the process's id.
    pub tgid: u32,
    /// `__state` (before 5.14 `state`).
    pub state: u32,
    /// `min_flt`.
    pub minor_faults: u32,
    /// `maj_flt`.
    pub major_faults: u32,
    /// `signal`.
    pub signal: u32,
    /// `live` of `signal_struct`.
    pub signal_live: u32,
}

impl TaskOffsets {
    /// Reads the offsets of the running kernel.
    ///
    /// # Errors
    /// The kernel does not describe its types, or not as expected.
    pub fn of_kernel() -> Result<Self, String> {
        let bytes = fs::read(KERNEL_TYPES)
            .map_err(|e| format!("{KERNEL_TYPES} cannot be read ({e}): this kernel has no BTF"))?;
        Self::of(&bytes).ok_or_else(|| format!("{KERNEL_TYPES} does not describe task_struct as expected"))
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let types = Types::parse(bytes)?;
        let task = types.structure("task_struct")?;
        let field = |name| types.member(task, name, DEEPEST);
        Some(Self {
            pid: field("pid")?,
            tgid: field("tgid")?,
            state: field("__state").or_else(|| field("state"))?,
            minor_faults: field("min_flt")?,
            major_faults: field("maj_flt")?,
            signal: field("signal")?,
            signal_live: types.member(types.structure("signal_struct")?, "live", DEEPEST)?,
        })
    }
}

/// `btf_header` and what it points to.
struct Types<'b> {
    strings: &'b [u8],
    /// Each type from its beginning on, by its id; the first (id 0) is void.
    records: Vec<&'b [u8]>,
}

/// `BTF_MAGIC`, in this machine's byte order: the kernel writes it as it runs.
const MAGIC: u16 = 0xeb9f;
/// `BTF_KIND_STRUCT`.
const STRUCT: u32 = 4;
/// `BTF_KIND_UNION`.
const UNION: u32 = 5;

impl<'b> Types<'b> {
    fn parse(bytes: &'b [u8]) -> Option<Self> {
        if u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let part = |offset: usize| -> Option<&'b [u8]> {
            let from = word(bytes, 4)?.checked_add(word(bytes, offset)?)?;
            let length = word(bytes, offset + 4)?;
            bytes
                .get(usize::try_from(from).ok()?..)?
                .get(..usize::try_from(length).ok()?)
        };
        let (mut types, strings) = (part(8)?, part(16)?);
        let mut records: Vec<&[u8]> = vec![&[]];
        while !types.is_empty() {
            let length = record_length(types)?;
            records.push(types.get(..length)?);
            types = types.get(length..)?;
        }
        Some(Self { strings, records })
    }

    fn name(&self, offset: u32) -> Option<&'b [u8]> {
        let from = self.strings.get(usize::try_from(offset).ok()?..)?;
        from.get(..memchr::memchr(0, from)?)
    }

    fn structure(&self, name: &str) -> Option<&'b [u8]> {
        self.records
            .iter()
            .find(|record| {
                kind(record) == Some(STRUCT)
                    && word(record, 0).and_then(|n| self.name(n)) == Some(name.as_bytes())
            })
            .copied()
    }

    /// Offset in bytes of a member, which may be in an anonymous struct or union.
    fn member(&self, record: &[u8], name: &str, depth: usize) -> Option<u32> {
        let info = word(record, 4)?;
        let members = record.get(12..)?.chunks_exact(12);
        for member in members {
            // With kind_flag the upper 8 bits are a bitfield's width.
            let bits = match word(member, 8)? {
                bits if info >> 31 != 0 => bits & 0x00ff_ffff,
                bits => bits,
            };
            let its_name = self.name(word(member, 0)?)?;
            if its_name == name.as_bytes() {
                return Some(bits / 8);
            }
            let inner = self.records.get(usize::try_from(word(member, 4)?).ok()?)?;
            if its_name.is_empty()
                && depth > 0
                && matches!(kind(inner), Some(STRUCT | UNION))
                && let Some(further) = self.member(inner, name, depth - 1)
            {
                return bits.checked_div(8)?.checked_add(further);
            }
        }
        None
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn kind(record: &[u8]) -> Option<u32> {
    Some(word(record, 4)? >> 24 & 0x1f)
}

/// Length in bytes of the first type: `btf_type` and what follows it, by its kind.
fn record_length(bytes: &[u8]) -> Option<usize> {
    let members = usize::try_from(word(bytes, 4)? & 0xffff).ok()?;
    let more = match kind(bytes)? {
        // INT, VAR, DECL_TAG
        1 | 14 | 17 => 4,
        // ARRAY
        3 => 12,
        // STRUCT, UNION, DATASEC, ENUM64
        STRUCT | UNION | 15 | 19 => 12 * members,
        // ENUM, FUNC_PROTO
        6 | 13 => 8 * members,
        // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    };
    Some(12 + more)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A struct `task_struct` of the ints `pid` and `tgid`, an anonymous struct of `__state` and `min_flt`, `maj_flt`, and
    /// `signal`; and a `signal_struct`.
    fn example() -> Vec<u8> {
        let strings = b"\0task_struct\0pid\0tgid\0__state\0min_flt\0maj_flt\0signal\0signal_struct\0live\0";
        let name = |name: &str| {
            let all = String::from_utf8_lossy(strings);
            u32::try_from(all.find(&format!("\0{name}\0")).unwrap() + 1).unwrap()
        };
        let types: Vec<u32> = [
            // 1: int
            vec![0, 1 << 24, 4, 32],
            // 2: the anonymous struct
            vec![0, 4 << 24 | 2, 16, name("__state"), 1, 0, name("min_flt"), 1, 64],
            // 3
            vec![
                name("task_struct"),
                4 << 24 | 5,
                48,
                name("pid"),
                1,
                32,
                name("tgid"),
                1,
                288,
                0,
                2,
                64,
                name("maj_flt"),
                1,
                256,
                name("signal"),
                1,
                320,
            ],
            // 4
            vec![name("signal_struct"), 4 << 24 | 1, 16, name("live"), 1, 32],
        ]
        .concat();
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [24, 0, types.len(), types.len(), strings.len()] {
            bytes.extend(u32::try_from(word).unwrap().to_ne_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_are_found_through_anonymous_structs() {
        let expected = TaskOffsets {
            pid: 4,
            tgid: 36,
            state: 8,
            minor_faults: 16,
            major_faults: 32,
            signal: 40,
            signal_live: 4,
        };
        assert_eq!(TaskOffsets::of(&example()), Some(expected));
    }

    #[test]
    fn nothing_that_is_cut_short_is_believed() {
        let whole = example();
        for length in 0..whole.len() {
            assert_eq!(TaskOffsets::of(&whole[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn this_kernel_is_understood() {
        let offsets = TaskOffsets::of_kernel().expect("a kernel with BTF");
        assert!(offsets.pid > 0 && offsets.minor_faults + 8 == offsets.major_faults);
    }
}
