//! Encodes what is observed of a start.

use super::wire::{Bytes, Read, Trouble, flags, put, put_difference, put_text};
use crate::stream::start::{Mark, StartCall, StartMark, Usage};

/// Appends a mark of a start.
pub fn mark(out: &mut Vec<u8>, mark: &StartMark) {
    let StartMark {
        pid,
        tid,
        main_thread,
        mark,
        value,
        name,
        usage,
    } = mark;
    out.push(flags([*main_thread, name.is_some(), usage.is_some(), false]));
    put(out, u64::from(*pid));
    put(out, u64::from(*tid));
    put(out, *mark as u64);
    put(out, *value);
    if let Some(name) = name {
        put_text(out, name);
    }
    if let Some(Usage {
        asleep_ns,
        waiting_ns,
        minor_faults,
        major_faults,
    }) = usage
    {
        for value in [asleep_ns, waiting_ns, minor_faults, major_faults] {
            put(out, *value);
        }
    }
}

/// Reads what [`mark`] wrote.
///
/// # Errors
/// The bytes are something else, or the mark is of a later version.
pub fn read_mark(bytes: &mut Bytes) -> Read<StartMark> {
    let [main_thread, name, usage, _] = bytes.flags()?;
    let (pid, tid) = (bytes.small()?, bytes.small()?);
    let mark = Mark::from_u32(bytes.small()?).ok_or(Trouble::Unknown)?;
    let value = bytes.number()?;
    let name = name.then(|| bytes.text().map(str::to_owned)).transpose()?;
    let mut read_usage = || {
        Ok(Usage {
            asleep_ns: bytes.number()?,
            waiting_ns: bytes.number()?,
            minor_faults: bytes.number()?,
            major_faults: bytes.number()?,
        })
    };
    Ok(StartMark {
        pid,
        tid,
        main_thread,
        mark,
        value,
        name,
        usage: usage.then(&mut read_usage).transpose()?,
    })
}

/// Appends a system call of a start.
pub fn call(out: &mut Vec<u8>, call: &StartCall) {
    let StartCall {
        pid,
        tid,
        main_thread,
        name,
        on,
        duration_ns,
        result,
    } = call;
    out.push(flags([*main_thread, on.is_some(), result.is_some(), false]));
    put(out, u64::from(*pid));
    put(out, u64::from(*tid));
    put_text(out, name);
    put(out, *duration_ns);
    if let Some(on) = on {
        put_text(out, on);
    }
    if let Some(result) = result {
        put_difference(out, result.cast_unsigned(), 0);
    }
}

/// Reads what [`call`] wrote.
///
/// # Errors
/// The bytes are something else.
pub fn read_call(bytes: &mut Bytes) -> Read<StartCall> {
    let [main_thread, on, result, _] = bytes.flags()?;
    Ok(StartCall {
        pid: bytes.small()?,
        tid: bytes.small()?,
        main_thread,
        name: bytes.text()?.to_owned(),
        duration_ns: bytes.number()?,
        on: on.then(|| bytes.text().map(str::to_owned)).transpose()?,
        result: result
            .then(|| bytes.difference(0).map(u64::cast_signed))
            .transpose()?,
    })
}
