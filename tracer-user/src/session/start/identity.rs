//! As whom a command runs: as the invoking user, also under sudo; or as whom `--user` says.

use std::ffi::CString;

use nix::unistd::{Gid, Uid, User, getgrouplist};

use crate::error::{Error, Failure, Result};

/// A user to become, with all that belongs to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    uid: libc::uid_t,
    gid: libc::gid_t,
    groups: Vec<libc::gid_t>,
    /// What login sets.
    pub environment: Vec<(&'static str, String)>,
}

impl Identity {
    /// The user of `--user`, a name or a number; else the one who called sudo; `None`: nobody else than now.
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
        let looked_up = User::from_name(name).map_err(|e| unknown(name, &e.to_string()))?;
        match (looked_up, name.parse()) {
            (Some(user), _) => Self::of(&user),
            (None, Ok(uid)) => Self::numbered(uid),
            (None, Err(_)) => Err(unknown(name, "there is no such user")),
        }
    }

    fn numbered(uid: libc::uid_t) -> Result<Self> {
        match User::from_uid(Uid::from_raw(uid)) {
            Ok(Some(user)) => Self::of(&user),
            // A number without a name has a group of the same number, as containers have it.
            Ok(None) => Ok(Self {
                uid,
                gid: uid,
                groups: vec![uid],
                environment: Vec::new(),
            }),
            Err(e) => Err(unknown(&uid.to_string(), &e.to_string())),
        }
    }

    fn of(user: &User) -> Result<Self> {
        let name = CString::new(user.name.as_str()).map_err(|e| unknown(&user.name, &e.to_string()))?;
        let groups = getgrouplist(&name, user.gid).map_err(|e| unknown(&user.name, &e.to_string()))?;
        Ok(Self {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
            environment: vec![
                ("HOME", user.dir.to_string_lossy().into_owned()),
                ("USER", user.name.clone()),
                ("LOGNAME", user.name.clone()),
            ],
        })
    }

    /// Becomes that user. Called between fork and exec: only system calls.
    ///
    /// # Errors
    /// Not privileged to.
    pub fn assume(&self) -> std::io::Result<()> {
        let done = |result: libc::c_int| match result {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        };
        // SAFETY: the pointer is to as many groups as is said.
        done(unsafe { libc::setgroups(self.groups.len(), self.groups.as_ptr()) })?;
        // SAFETY: takes a number.
        done(unsafe { libc::setgid(self.gid) })?;
        // SAFETY: takes a number.
        done(unsafe { libc::setuid(self.uid) })
    }
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
