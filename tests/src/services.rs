//! Go programs as many people run them, from Debian's packages: Caddy and Syncthing, with something to do.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::environment::HINT;
use crate::http;

/// How long one may take until it answers.
const STARTED: Duration = Duration::from_secs(60);
/// Files that Syncthing has to look through, and their size.
const FILES: usize = 200;
const FILE_BYTES: usize = 256 << 10;

/// A server, with its data in a folder of its own; killed on drop.
#[derive(Debug)]
pub struct Service {
    child: Child,
    address: SocketAddr,
    path: &'static str,
    dir: TempDir,
}

impl Service {
    /// Caddy, which serves the files of a folder.
    pub fn caddy() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("page.html"), "x".repeat(20_000))?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(program("caddy")?);
        command
            .args(["file-server", "--listen", &address.to_string(), "--root"])
            .arg(dir.path());
        Self::start(command, dir, address, "/page.html")
    }

    /// Syncthing, which looks through a folder of files, and serves its page.
    pub fn syncthing() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let shared = dir.path().join("Sync");
        fs::create_dir(&shared)?;
        for n in 0..FILES {
            let content = vec![n as u8; FILE_BYTES];
            fs::write(shared.join(format!("{n}")), content)?;
        }
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(program("syncthing")?);
        command
            .args(["serve", "--no-browser", "--no-upgrade", "--home"])
            .arg(dir.path().join("state"))
            .arg(format!("--gui-address={address}"))
            // Otherwise it starts itself once more, as a child that it restarts.
            .env("STMONITORED", "yes");
        Self::start(command, dir, address, "/")
    }

    fn start(mut command: Command, dir: TempDir, address: SocketAddr, path: &'static str) -> Result<Self> {
        let log = File::create(dir.path().join("log"))?;
        command
            .env("HOME", dir.path())
            .env("GOMAXPROCS", "2")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let mut service = Self {
            child,
            address,
            path,
            dir,
        };
        let end = Instant::now() + STARTED;
        while !service.answers() {
            if Instant::now() > end || service.child.try_wait()?.is_some() {
                bail!(
                    "{command:?} does not run. It said:\n{}",
                    fs::read_to_string(service.dir.path().join("log")).unwrap_or_default()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(service)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks for a page; returns whether it was given.
    pub fn answers(&self) -> bool {
        http::get(self.address, self.path).is_ok_and(|answer| answer.status == 200)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// The path of a program in the folder that `GMPSCOPE_SERVICES` names.
fn program(name: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("GMPSCOPE_SERVICES")
        .with_context(|| format!("GMPSCOPE_SERVICES does not name the folder of {name}: {HINT}"))?;
    let path = PathBuf::from(folder).join(name);
    ensure!(path.is_file(), "{} is not there: {HINT}", path.display());
    Ok(path)
}
