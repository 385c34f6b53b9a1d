//! `cargo xtask demo`: from nothing to a histogram of a real Go program.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::setup::{self, Component};
use crate::{build, go, paths, privilege, step};

/// Build gmpscope, start a Go program (64 workers on one queue of short jobs, stripped) and attach to it.
#[derive(clap::Args)]
pub struct Args {
    /// How long each capture takes
    #[arg(long, default_value = "5s")]
    duration: String,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&[Component::Bpf, Component::Go(go::NEWEST)])?;
    build::release()?;
    step::title("a Go program to look at");
    let binary = go::build_stripped(go::NEWEST, "pool")?;
    let mut workload = Workload::start(&binary)?;
    println!(
        "   pool: 64 goroutines take 10 µs jobs from one channel; process {}",
        workload.pid()
    );
    for mode in ["sampled", "exact"] {
        let gmpscope = paths::release_binary();
        let pid = workload.pid().to_string();
        let arguments = ["attach", "-p", &pid, "--duration", &args.duration, "--mode", mode];
        step::title(&format!("gmpscope {}", arguments.join(" ")));
        let program = gmpscope
            .to_str()
            .context("the path of the target folder is not UTF-8")?;
        let status = privilege::as_root(program, &arguments)?
            .stdin(Stdio::null())
            .status()
            .with_context(|| format!("starting {program}"))?;
        if !status.success() {
            bail!("`gmpscope {}` ended with {status}", arguments.join(" "));
        }
    }
    workload.stop()
}

/// A running workload; it ends when its standard input does, so at the latest with us.
struct Workload {
    child: Child,
}

impl Workload {
    fn start(binary: &std::path::Path) -> Result<Self> {
        let mut child = Command::new(binary)
            .arg("-control")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let mut lines = BufReader::new(child.stdout.take().context("no pipe")?);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        child.stdin.as_mut().context("no pipe")?.write_all(b"go\n")?;
        lines.read_line(&mut line)?;
        if !line.contains("running") {
            bail!("{} did not start to run; it said: {line:?}", binary.display());
        }
        Ok(Self { child })
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn stop(&mut self) -> Result<()> {
        drop(self.child.stdin.take());
        self.child.wait().context("waiting for the workload's end")?;
        Ok(())
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // After `stop` both fail, which is as it should be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
