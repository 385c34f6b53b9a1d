//! Files that gmpscope writes: their owner, what becomes of earlier contents, and what is left.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gmpscope_tests::environment::gmpscope;
use gmpscope_tests::scenario::Case;
use gmpscope_tests::unread::{Guarded, until};
use gmpscope_tests::{Variant, Workload, machine, toolchain};

const SOMEBODY: u32 = 65_534;

fn workload() -> Result<Workload> {
    let mut workload = Case::new(&toolchain::newest()?, Variant::Stripped, "mixed").start()?;
    workload.go()?;
    Ok(workload)
}

/// Captures for a moment, without a probe, with one more option and its file.
fn capture(workload: &Workload, option: &str, file: &Path) -> Result<Output> {
    let output = Command::new(gmpscope()?)
        .args(["attach", "-p", &workload.pid().to_string()])
        .args(["-m", "passive", "-d", "100ms", option])
        .arg(file)
        .stdin(Stdio::null())
        .output()?;
    Ok(output)
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// A setting of the kernel, restored on drop.
struct Setting(&'static str, String);

impl Setting {
    fn set(path: &'static str, value: &str) -> Result<Self> {
        let before = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
        fs::write(path, value).with_context(|| format!("{path}: run the tests as root"))?;
        Ok(Self(path, before))
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        _ = fs::write(self.0, &self.1);
    }
}

#[test]
fn what_others_put_into_a_sticky_folder_is_neither_followed_nor_written() -> Result<()> {
    let _machine = machine();
    let _links = Setting::set("/proc/sys/fs/protected_symlinks", "1")?;
    let _files = Setting::set("/proc/sys/fs/protected_regular", "1")?;
    let workload = workload()?;
    let folder = tempfile::tempdir()?;
    let victim = folder.path().join("victim");
    let sticky = folder.path().join("sticky");
    fs::create_dir(&sticky)?;
    fs::set_permissions(&sticky, fs::Permissions::from_mode(0o1777))?;
    for option in ["-o", "--record"] {
        fs::write(&victim, "root's own")?;
        let (link, file) = (sticky.join("link"), sticky.join("file"));
        symlink(&victim, &link)?;
        std::os::unix::fs::lchown(&link, Some(SOMEBODY), Some(SOMEBODY))?;
        fs::write(&file, "somebody's")?;
        chown(&file, Some(SOMEBODY), Some(SOMEBODY))?;
        for path in [&link, &file] {
            let output = capture(&workload, option, path)?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(
                output.status.code() == Some(1) && said.contains("Permission denied"),
                "{option} {}: {} {said}",
                path.display(),
                output.status
            );
        }
        ensure!(
            fs::read(&victim)? == b"root's own",
            "{option} wrote through the link"
        );
        ensure!(
            fs::read(&file)? == b"somebody's",
            "{option} wrote into somebody's file"
        );
        ensure!(names(&sticky)? == ["file", "link"], "{:?}", names(&sticky)?);
        // A link that belongs to the user is followed, as by a shell.
        fs::remove_file(&link)?;
        symlink(&victim, &link)?;
        let output = capture(&workload, option, &link)?;
        ensure!(output.status.success(), "{option}: {output:?}");
        ensure!(fs::read(&victim)? != b"root's own", "{option}");
        fs::remove_file(&link)?;
        fs::remove_file(&file)?;
    }
    Ok(())
}

#[test]
fn a_file_keeps_its_mode_and_owner_and_a_new_one_is_its_owners_alone() -> Result<()> {
    let _machine = machine();
    let workload = workload()?;
    for option in ["-o", "--record"] {
        let folder = tempfile::tempdir()?;
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        fs::write(&old, "x".repeat(1 << 20))?;
        fs::set_permissions(&old, fs::Permissions::from_mode(0o640))?;
        chown(&old, Some(SOMEBODY), Some(1))?;
        let before = fs::metadata(&old)?;
        for path in [&old, &new] {
            let output = capture(&workload, option, path)?;
            ensure!(output.status.success(), "{option}: {output:?}");
        }
        let id = |file: &fs::Metadata| (file.mode(), file.uid(), file.gid(), file.ino());
        let after = fs::metadata(&old)?;
        ensure!(
            id(&after) == id(&before),
            "{option}: {:?} {:?}",
            id(&before),
            id(&after)
        );
        ensure!(after.len() < 1 << 20, "{option}: what was there is still in it");
        let mode = fs::metadata(&new)?.mode() & 0o7777;
        ensure!(mode == 0o600, "{option}: {mode:o}");
        ensure!(
            names(folder.path())? == ["new", "old"],
            "{:?}",
            names(folder.path())?
        );
    }
    Ok(())
}

#[test]
fn nothing_is_left_of_a_capture_that_was_killed() -> Result<()> {
    let _machine = machine();
    let workload = workload()?;
    let folder = tempfile::tempdir()?;
    let old = folder.path().join("old");
    fs::write(&old, "an old result")?;
    for name in ["new", "old"] {
        let said = folder.path().with_extension("said");
        let mut tracer = Guarded(
            Command::new(gmpscope()?)
                .args(["attach", "-p", &workload.pid().to_string(), "-m", "passive", "-o"])
                .arg(folder.path().join(name))
                .stdin(Stdio::null())
                .stderr(fs::File::create(&said)?)
                .spawn()?,
        );
        until("it is attached", Duration::from_secs(20), || {
            Ok(fs::read_to_string(&said)?.contains("attached:"))
        })?;
        tracer.signal(libc::SIGKILL);
        tracer.ends_within(Duration::from_secs(20))?;
        fs::remove_file(&said)?;
        ensure!(
            names(folder.path())? == ["old"],
            "{name}: {:?}",
            names(folder.path())?
        );
        ensure!(fs::read(&old)? == b"an old result", "{name}");
    }
    Ok(())
}
