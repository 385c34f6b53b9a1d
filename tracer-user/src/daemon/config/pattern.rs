//! Patterns: `*` stands for any characters (also none, also `/`), `?` for one.

use super::mistake::shortened;

/// Longest name of a process, in bytes (`TASK_COMM_LEN` of include/linux/sched.h, less the NUL).
const COMM: usize = 15;

/// What a pattern is matched against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A path: of an executable, or of a cgroup.
    Path,
    /// The name of a process.
    Comm,
    /// The id of a container.
    Container,
    /// The UID of a Kubernetes pod: hexadecimal digits and hyphens.
    Pod,
    /// The name of a machine, as DNS has it.
    Host,
}

impl Subject {
    /// An example of a pattern, for messages.
    pub const fn example(self) -> &'static str {
        match self {
            Self::Path => "/usr/bin/*",
            Self::Comm => "caddy",
            Self::Container => "3f9c*",
            Self::Pod => "0f8fad5b-*",
            Self::Host => "*.example.com",
        }
    }
}

/// Returns the pattern, if it can match anything.
///
/// # Errors
/// The message says why it cannot.
pub fn check(text: &str, subject: Subject) -> Result<String, String> {
    let shown = shortened(text);
    if text.is_empty() {
        return Err("an empty pattern matches nothing: write `*` for all".to_owned());
    }
    if let Some(c) = text.chars().find(|c| matches!(c, '[' | ']' | '{' | '}' | '\\')) {
        return Err(format!(
            "`{c}` in `{shown}` has no meaning in patterns, which have `*` (any characters) and `?` (one): for \
             the character itself write `?`"
        ));
    }
    if text.contains('\0') {
        return Err("no name holds a NUL".to_owned());
    }
    match subject {
        Subject::Path if !text.starts_with(['/', '*', '?']) => Err(format!(
            "`{shown}` never matches, since paths begin with `/`: write `*/{shown}`"
        )),
        Subject::Comm if text.bytes().filter(|b| *b != b'*').count() > COMM => Err(format!(
            "`{shown}` never matches: the kernel keeps the first {COMM} bytes of a name; match `exe`, or write \
             a shorter pattern"
        )),
        Subject::Pod
            if !text
                .bytes()
                .all(|b| b.is_ascii_hexdigit() || matches!(b, b'-' | b'*' | b'?')) =>
        {
            Err(format!(
                "`{shown}` never matches: pods are known by their UID, of hexadecimal digits and hyphens"
            ))
        }
        Subject::Host if !text.bytes().all(is_of_host) => Err(format!(
            "`{shown}` never matches: write the name alone as DNS has it, without scheme and port, as in \
             `{}` (IP addresses need not be listed)",
            subject.example()
        )),
        _ => Ok(text.to_owned()),
    }
}

fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*' | b'?')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_must_be_able_to_match() {
        for (text, subject) in [
            ("/usr/bin/caddy", Subject::Path),
            ("*/caddy", Subject::Path),
            ("?usr/*", Subject::Path),
            ("*", Subject::Comm),
            ("exactly15bytes_", Subject::Comm),
            ("exactly15bytes_*", Subject::Comm),
            ("3f9c*", Subject::Container),
            ("0f8fad5b-d9cb-469f-a165-70867728950e", Subject::Pod),
            ("node-1.Example.com", Subject::Host),
            ("*", Subject::Host),
        ] {
            assert_eq!(check(text, subject), Ok(text.to_owned()));
        }
        for (text, subject, why) in [
            ("", Subject::Path, "empty"),
            ("caddy", Subject::Path, "`*/caddy`"),
            ("/usr/[a-z]*", Subject::Path, "`[`"),
            ("/usr/{a,b}", Subject::Path, "`{`"),
            ("/usr/a\\*", Subject::Path, "`\\`"),
            ("/a\0b", Subject::Path, "NUL"),
            ("a_name_of_16byte", Subject::Comm, "15 bytes"),
            ("????????????????", Subject::Comm, "15 bytes"),
            ("my-pod", Subject::Pod, "hexadecimal"),
            ("http://node", Subject::Host, "without scheme and port"),
            ("node:9435", Subject::Host, "without scheme and port"),
            ("b\u{fc}ro.example.com", Subject::Host, "as DNS has it"),
        ] {
            let said = check(text, subject).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
