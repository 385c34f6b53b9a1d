//! Paths from the environment, and the lock on the machine.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};

/// The hint in errors about missing parts.
pub const HINT: &str = "run `cargo xtask test`, which sets everything up";

/// Whether to test every Go version and variant (`GMPSCOPE_TESTS=full`), not the fast subset.
pub fn full() -> bool {
    std::env::var("GMPSCOPE_TESTS").is_ok_and(|v| v == "full")
}

/// The `gmpscope` binary, from `GMPSCOPE_BIN`.
pub fn gmpscope() -> Result<PathBuf> {
    let path = PathBuf::from(
        std::env::var_os("GMPSCOPE_BIN")
            .with_context(|| format!("GMPSCOPE_BIN does not name the binary: {HINT}"))?,
    );
    if !path.is_file() {
        bail!(
            "GMPSCOPE_BIN names {}, which is not there: {HINT}",
            path.display()
        );
    }
    Ok(path)
}

/// The Debian package of that binary, from `GMPSCOPE_DEB`.
pub fn package_file() -> Result<PathBuf> {
    let path = PathBuf::from(
        std::env::var_os("GMPSCOPE_DEB")
            .with_context(|| format!("GMPSCOPE_DEB does not name the Debian package: {HINT}"))?,
    );
    if !path.is_file() {
        bail!(
            "GMPSCOPE_DEB names {}, which is not there: {HINT}",
            path.display()
        );
    }
    Ok(path)
}

/// The folder of built workloads and oracles.
pub fn cache() -> Result<PathBuf> {
    let root = match std::env::var_os("GMPSCOPE_CACHE") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(std::env::var_os("HOME").context("neither GMPSCOPE_CACHE nor HOME is set")?)
            .join(".cache/gmpscope"),
    };
    Ok(root)
}

/// The folder of programs that were built elsewhere, as `VERSION/VARIANT/PROGRAM`: `GMPSCOPE_WORKLOADS`, set where
/// there is no Go.
pub fn prebuilt() -> Option<PathBuf> {
    std::env::var_os("GMPSCOPE_WORKLOADS").map(PathBuf::from)
}

/// The folder of this package.
pub fn package() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Locks the machine for one measurement: tests of one binary run in threads, and a second workload beside the first
/// would change what both measure. A failed test does not keep the lock.
pub fn machine() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// CLOCK_MONOTONIC in nanoseconds: the clock of the runtime, of the kernel's programs and of all oracles.
pub fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// CPU time of this thread, in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `ts` is a valid place for the one value that clock_gettime writes.
    unsafe { libc::clock_gettime(clock, &mut ts) };
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}
