//! A root directory on a file system (tmpfs) of its own, in a mount namespace of the calling thread: executing a
//! program there affects nobody else on the machine, and a program that runs there sees no other file system to watch.
//! Or just a folder on such a file system.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::null;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// The root directory. The thread that made it unmounts it on drop.
#[derive(Debug)]
pub struct Island {
    dir: TempDir,
}

impl Island {
    /// Makes a root directory that is empty except for /proc, /sys and /dev.
    pub fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        own_namespace()?;
        mount("none", dir.path(), "tmpfs", 0)?;
        let island = Self { dir };
        for name in ["bin", "tmp"] {
            fs::create_dir(island.path(name))?;
        }
        for (name, how) in [("proc", libc::MS_REC), ("sys", libc::MS_REC), ("dev", 0)] {
            fs::create_dir(island.path(name))?;
            mount(&format!("/{name}"), &island.path(name), "", libc::MS_BIND | how)?;
        }
        Ok(island)
    }

    /// Returns a path inside as seen from outside: `tmp/x` is `/tmp/x` for a program that runs there.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Copies a program to `/bin/NAME` inside, with the libraries that it needs.
    pub fn add(&self, program: &Path, name: &str) -> Result<()> {
        let to = self.path("bin").join(name);
        fs::copy(program, &to).with_context(|| format!("copying {}", program.display()))?;
        let needed = Command::new("ldd").arg(program).output().context("running ldd")?;
        // `libc.so.6 => /lib/…/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`; nothing of that for a static one.
        let needed = String::from_utf8(needed.stdout)?;
        let libraries = needed.split_whitespace().filter(|word| word.starts_with('/'));
        for library in libraries {
            let to = self.path(library.trim_start_matches('/'));
            fs::create_dir_all(to.parent().context("no folder")?)?;
            fs::copy(library, &to).with_context(|| format!("copying {library}"))?;
        }
        Ok(())
    }

    /// Returns the command for a program inside. The thread that made the directory must start it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let mut root = self.dir.path().as_os_str().as_bytes().to_vec();
        root.push(0);
        // SAFETY: the closure makes system calls only, with memory that was allocated before.
        unsafe {
            command.pre_exec(move || {
                match libc::chroot(root.as_ptr().cast()) == 0 && libc::chdir(c"/".as_ptr()) == 0 {
                    true => Ok(()),
                    false => Err(io::Error::last_os_error()),
                }
            });
        }
        command
    }
}

impl Drop for Island {
    fn drop(&mut self) {
        let mut path = self.dir.path().as_os_str().as_bytes().to_vec();
        path.push(0);
        // SAFETY: a NUL-terminated path.
        unsafe { libc::umount2(path.as_ptr().cast(), libc::MNT_DETACH) };
    }
}

/// Covers a folder by an empty file system, for the calling thread and for what it starts from then on.
pub fn cover(folder: &Path) -> Result<()> {
    own_namespace()?;
    mount("none", folder, "tmpfs", 0)
}

/// Gives the calling thread a mount namespace of its own.
fn own_namespace() -> Result<()> {
    // SAFETY: takes a number; the thread shares its working directory with no other from here on.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        bail!("unshare: {}: this needs root", io::Error::last_os_error());
    }
    mount("none", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE)
}

fn mount(what: &str, place: &Path, kind: &str, flags: libc::c_ulong) -> Result<()> {
    let text = |bytes: &[u8]| [bytes, &[0]].concat();
    let (source, target, kind) = (
        text(what.as_bytes()),
        text(place.as_os_str().as_bytes()),
        text(kind.as_bytes()),
    );
    // SAFETY: NUL-terminated strings; no data.
    let mounted = unsafe {
        libc::mount(
            source.as_ptr().cast(),
            target.as_ptr().cast(),
            kind.as_ptr().cast(),
            flags,
            null(),
        )
    };
    match mounted {
        0 => Ok(()),
        _ => bail!(
            "mounting {what} at {}: {}",
            place.display(),
            io::Error::last_os_error()
        ),
    }
}
