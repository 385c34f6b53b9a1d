//! Commands that are not Go programs themselves, but start one: shells, supervisors, the dynamic loader.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

use super::program::find;
use crate::{
    error::{Error, Failure},
    escape::Untrusted,
    process::{is_go, is_loader},
};

/// Programs that ask a service to start their argument, so that it does not descend from them.
const CLIENTS: [&str; 8] = [
    "systemd-run",
    "docker",
    "podman",
    "nerdctl",
    "kubectl",
    "machinectl",
    "at",
    "batch",
];
/// Most words of the arguments that are looked at.
const MOST_WORDS: usize = 64;

/// The better error for a command that cannot be traced since it is not a Go program itself: what it is about to start,
/// and how that can be traced.
pub fn explain(error: Error, program: &Path, arguments: &[OsString]) -> Error {
    // Not of a Go program that cannot be traced, which has an advice of its own.
    let is_other = ["not a Go program", "is a script"]
        .iter()
        .any(|what| error.message.contains(what));
    if error.failure != Failure::NotTraceable || !is_other {
        return error;
    }
    let go = go_argument(arguments);
    Error {
        message: message(&error.message, program, go.as_deref()),
        ..error
    }
}

fn message(error: &str, program: &Path, go: Option<&str>) -> String {
    let shown = Untrusted::path(program);
    let quoted = go.map(|go| Untrusted::from(go).to_string());
    let go = quoted.as_deref();
    if is_loader(program) {
        return format!(
            "{shown} is the dynamic loader: a program that it is given as an argument is not executed by the kernel, so \
             its start cannot be traced; run it directly: gmpscope run -- {}",
            go.unwrap_or("PROGRAM")
        );
    }
    let is_client = program
        .file_name()
        .is_some_and(|name| CLIENTS.iter().any(|client| name == *client));
    if is_client {
        return format!(
            "{error}; it asks a service to start its argument, which does not descend from it: in another terminal, run \
             gmpscope attach --exe {} --next before",
            go.unwrap_or("PROGRAM")
        );
    }
    match go {
        Some(go) => format!(
            "{error}; {go} among its arguments is one: gmpscope run -- {go} traces that, and gmpscope run --follow all \
             that this command starts"
        ),
        None => format!(
            "{error}; if it starts one, as a shell or a supervisor does, gmpscope run --follow traces all that it starts"
        ),
    }
}

/// The first word of the arguments that names a Go program; a script after `sh -c` has several words.
fn go_argument(arguments: &[OsString]) -> Option<String> {
    let words = arguments.iter().filter_map(|argument| argument.to_str());
    let words =
        words.flat_map(|argument| argument.split(|c: char| c.is_whitespace() || ";&|(){}\"'".contains(c)));
    words
        .filter(|word| !word.is_empty() && !word.starts_with('-'))
        .take(MOST_WORDS)
        .find(|word| find(OsStr::new(word)).is_ok_and(|path| is_go(&path)))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(program: &str, go: Option<&str>) -> String {
        message("it is not a Go program", Path::new(program), go)
    }

    #[test]
    fn a_shell_is_told_to_be_followed() {
        let text = said("/bin/sh", None);
        assert!(
            text.starts_with("it is not a Go program; if it starts one"),
            "{text}"
        );
        assert!(text.contains("run --follow"), "{text}");
        let text = said("/usr/bin/tini", Some("./server"));
        assert!(
            text.contains("./server among its arguments") && text.contains("run -- ./server"),
            "{text}"
        );
        assert!(text.contains("--follow"), "{text}");
    }

    #[test]
    fn what_does_not_descend_is_not_followed() {
        let text = said("/usr/bin/systemd-run", Some("/srv/server"));
        assert!(text.contains("attach --exe /srv/server --next"), "{text}");
        assert!(!text.contains("--follow"), "{text}");
    }

    #[test]
    fn a_loader_is_left_out() {
        let text = said("/lib64/ld-linux-x86-64.so.2", Some("./server"));
        assert!(
            text.contains("dynamic loader") && text.contains("run -- ./server"),
            "{text}"
        );
    }

    #[test]
    fn other_errors_and_other_arguments_stay() {
        for error in [
            Error::not_permitted("x: is not a Go program"),
            Error::not_traceable("x: is packed with UPX"),
        ] {
            assert_eq!(explain(error.clone(), Path::new("/bin/sh"), &[]), error);
        }
        let error = Error::not_traceable("x: is not a Go program");
        assert!(
            explain(error, Path::new("/bin/sh"), &[])
                .message
                .contains("--follow")
        );
        let arguments = ["-c", "exec /bin/true; (/nonexistent)"].map(OsString::from);
        assert_eq!(go_argument(&arguments), None);
    }
}
