//! The user that a command runs as: the invoking user, also under sudo, or the one of `--user`.

use std::process::{Command, Stdio};

use nix::unistd::Uid;

use crate::error::{Error, Failure, Result};
use crate::process::text_of;

/// A user to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    uid: libc::uid_t,
    gid: libc::gid_t,
    groups: Vec<libc::gid_t>,
    /// The variables that login(1) sets.
    pub environment: Vec<(&'static str, String)>,
}

impl Identity {
    /// Returns the user of `--user`, a name or a number; otherwise the one who called sudo; `None` to stay who we are.
    ///
    /// # Errors
    /// There is no such user.
    pub fn chosen(asked: Option<&str>) -> Result<Option<Self>> {
        if let Some(name) = asked {
            return Self::named(name).map(Some);
        }
        let sudo = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
        match sudo {
            Some(uid) if Uid::effective().is_root() && uid != 0 => Self::numbered(uid).map(Some),
            _ => Ok(None),
        }
    }

    fn named(name: &str) -> Result<Self> {
        match (User::found(name), name.parse()) {
            (Some(user), _) => Ok(Self::of(user)),
            (None, Ok(uid)) => Self::numbered(uid),
            (None, Err(_)) => Err(unknown(name, "there is no such user")),
        }
    }

    fn numbered(uid: libc::uid_t) -> Result<Self> {
        Ok(match User::found(&uid.to_string()) {
            Some(user) => Self::of(user),
            // A number without a name gets the group of the same number, as in containers.
            None => Self {
                uid,
                gid: uid,
                groups: vec![uid],
                environment: Vec::new(),
            },
        })
    }

    fn of(user: User) -> Self {
        Self {
            uid: user.uid,
            gid: user.gid,
            groups: user.groups(),
            environment: vec![
                ("HOME", user.home),
                ("USER", user.name.clone()),
                ("LOGNAME", user.name),
            ],
        }
    }

    /// Becomes that user. Makes system calls only, so that it may be called between fork and exec.
    ///
    /// # Errors
    /// The privileges do not suffice.
    pub fn assume(&self) -> std::io::Result<()> {
        let done = |result: libc::c_int| match result {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        };
        // SAFETY: the pointer and the length are those of a slice.
        done(unsafe { libc::setgroups(self.groups.len(), self.groups.as_ptr()) })?;
        // SAFETY: takes a number.
        done(unsafe { libc::setgid(self.gid) })?;
        // SAFETY: takes a number.
        done(unsafe { libc::setuid(self.uid) })
    }
}

/// A line of passwd(5). getpwnam(3) is not used: a C library that is linked statically cannot load the modules that
/// `nsswitch.conf` names, and crashes if it tries; the system's own programs can.
struct User {
    name: String,
    uid: libc::uid_t,
    gid: libc::gid_t,
    home: String,
}

impl User {
    /// Finds a user by name or number: in /etc/passwd, otherwise wherever getent(1) looks.
    fn found(key: &str) -> Option<Self> {
        let file = text_of("/etc/passwd").unwrap_or_default();
        file.lines()
            .filter_map(Self::parsed)
            .find(|user| user.name == key || user.uid.to_string() == key)
            .or_else(|| {
                output_of("getent", &["passwd", "--", key])?
                    .lines()
                    .find_map(Self::parsed)
            })
    }

    /// Parses `name:password:uid:gid:gecos:home:shell`.
    fn parsed(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields.as_slice() else {
            return None;
        };
        Some(Self {
            name: (*name).to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: (*home).to_owned(),
        })
    }

    /// Returns all its groups; its primary group alone where they are not known.
    fn groups(&self) -> Vec<libc::gid_t> {
        let output = output_of("id", &["-G", "--", &self.name]).unwrap_or_default();
        let groups: Vec<_> = output
            .split_whitespace()
            .filter_map(|gid| gid.parse().ok())
            .collect();
        if groups.is_empty() { vec![self.gid] } else { groups }
    }
}

/// Runs a program. Returns its standard output if it succeeded.
fn output_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn unknown(name: &str, why: &str) -> Error {
    Error {
        failure: Failure::NotStarted,
        message: format!("cannot run the command as user {name}: {why}; --user takes a name or a number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_users() {
        let root = Identity::chosen(Some("root")).unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.environment.iter().any(|(name, _)| *name == "HOME"));
        assert_eq!(Identity::chosen(Some("0")).unwrap().unwrap(), root);
        let nameless = Identity::chosen(Some("4294900000")).unwrap().unwrap();
        assert_eq!((nameless.uid, nameless.gid), (4_294_900_000, 4_294_900_000));
        let error = Identity::chosen(Some("no such user")).unwrap_err();
        assert_eq!(error.failure, Failure::NotStarted);
    }
}
