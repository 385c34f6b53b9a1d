//! Errors of the kernel at the end of a chain of causes, as libraries return them.

use std::{error::Error as StdError, io};

use super::privilege::{self, Need};
use crate::error::{Error, Failure};

/// All messages of the chain, outermost first, and the kernel's errno, if there is one in it. Libraries name the
/// failed call first, and the reason is at the end of the chain.
pub fn chain(error: &(dyn StdError + 'static)) -> (String, Option<i32>) {
    let (mut text, mut errno) = (error.to_string(), None);
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            errno = io.raw_os_error().or(errno);
        }
        cause = error.source();
        if let Some(next) = cause.map(ToString::to_string)
            && !text.contains(&next)
        {
            text = format!("{text}: {next}");
        }
    }
    (shortened(&text), errno)
}

/// How many of the last lines of a long message are kept.
const LAST_LINES: usize = 8;

/// Shortens a message to a screen: of the verifier's log, the end matters.
fn shortened(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    match lines.as_slice() {
        [first, rest @ ..] if rest.len() > LAST_LINES => {
            let last = &rest[rest.len() - LAST_LINES..];
            format!("{first}\n  […]\n  {}", last.join("\n  "))
        }
        _ => text.to_owned(),
    }
}

/// The error for an operation that the kernel refused, with the exit status and advice for its errno. `what` continues
/// "cannot …".
pub fn refused(what: &str, need: Need, error: &(dyn StdError + 'static)) -> Error {
    let (text, errno) = chain(error);
    let message = format!("cannot {what}: {text}");
    match errno {
        Some(libc::EPERM | libc::EACCES) => Error {
            failure: Failure::NotPermitted,
            message: format!(
                "{message}. {} Run `gmpscope doctor` for details.",
                privilege::advice(need)
            ),
        },
        Some(libc::ESRCH) => Error::not_traceable(format!("{message}: the process has ended meanwhile")),
        // Not a missing feature: the same may work in a minute, or with a smaller request.
        Some(
            libc::ENOMEM
            | libc::EMFILE
            | libc::ENFILE
            | libc::ENOSPC
            | libc::EAGAIN
            | libc::EBUSY
            | libc::EIO,
        ) => Error::failed(message),
        _ if privilege::lockdown().as_deref() == Some("confidentiality") => Error::not_permitted(format!(
            "{message}. {} Run `gmpscope doctor` for details.",
            privilege::advice(need)
        )),
        _ => Error::not_permitted(format!(
            "{message}; `gmpscope doctor` says what this kernel can do"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("`the_call` failed")]
    struct Call(#[source] io::Error);

    #[test]
    fn a_verifiers_log_is_cut() {
        let log: Vec<String> = (0..2000).map(|line| line.to_string()).collect();
        let cut = shortened(&log.join("\n"));
        assert_eq!(cut.lines().count(), 2 + LAST_LINES);
        assert!(cut.starts_with("0\n") && cut.ends_with("\n  1999"));
        assert_eq!(shortened("one\ntwo"), "one\ntwo");
    }

    #[test]
    fn the_errno_at_the_end_decides() {
        let of = |errno| {
            refused(
                "do it",
                Need::OpenProbe,
                &Call(io::Error::from_raw_os_error(errno)),
            )
        };
        let gone = of(libc::ESRCH);
        assert_eq!(gone.failure, Failure::NotTraceable);
        assert!(
            gone.message
                .starts_with("cannot do it: `the_call` failed: No such process"),
            "{gone}"
        );
        assert_eq!(of(libc::EPERM).failure, Failure::NotPermitted);
        let unknown = of(libc::EINVAL);
        assert_eq!(unknown.failure, Failure::NotPermitted);
        assert!(unknown.message.contains("Invalid argument"));
        assert_eq!(of(libc::ENOMEM).failure, Failure::Failed);
        assert_eq!(
            chain(&io::Error::from_raw_os_error(libc::EBUSY)).1,
            Some(libc::EBUSY)
        );
    }
}
