//! One virtual machine, from its start to its end.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Machine;
use super::report::{Finding, Report};
use crate::arch::Arch;
use crate::setup::kernels::Kernel;
use crate::setup::qemu;
use crate::{paths, step};

/// What a line of the guest's begins with; all others are the kernel's.
const MARK: &str = "guest: ";
/// How long all checks of one machine may take.
const AT_MOST: Duration = Duration::from_secs(900);
/// How many of the last lines an error shows.
const SHOWN_LINES: usize = 30;

/// Boots a kernel, shows each finding as it comes, and waits until the machine is off.
///
/// # Errors
/// The machine did not come up, or its checks did not come to their end.
pub fn run(machine: Machine, kernel: &Kernel, image: &Path) -> Result<Report> {
    let began = Instant::now();
    let mut qemu = command(machine.arch, &kernel.image, image)?;
    let mut child = Running(
        qemu.stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("starting {:?}", qemu.get_program()))?,
    );
    let console = child
        .0
        .stdout
        .take()
        .context("the machine's console has no pipe")?;
    let (send, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if send.send(line).is_err() {
                return;
            }
        }
    });

    let log = paths::target()
        .join("xtask-logs")
        .join(format!("vm-{}.log", machine.name().replace(' ', "-")));
    let mut console = Vec::new();
    let mut report = Report {
        machine,
        package: kernel.package.clone(),
        findings: Vec::new(),
        took: Duration::ZERO,
    };
    let mut finished = None;
    loop {
        let left = AT_MOST.saturating_sub(began.elapsed());
        let Ok(line) = lines.recv_timeout(left) else { break };
        // The firmware and the kernel may have begun a line before.
        if let Some((_, json)) = line.split_once(MARK) {
            match serde_json::from_str::<Finding>(json) {
                Ok(finding) if finding.check == "finished" => {
                    finished = finding.figures.get("findings").copied()
                }
                Ok(finding) => {
                    finding.print();
                    std::io::stdout().flush()?;
                    report.findings.push(finding);
                }
                // It is missed in the count.
                Err(why) => println!("   not understood ({why}): {json}"),
            }
        }
        console.push(line);
    }
    drop(child);
    report.took = began.elapsed();
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&log, console.join("\n")).with_context(|| format!("writing {}", log.display()))?;
    if finished != Some(report.findings.len() as u64) {
        for line in console.iter().skip(console.len().saturating_sub(SHOWN_LINES)) {
            eprintln!("   | {line}");
        }
        bail!(
            "the checks on {} did not come to their end: {} findings, of {} that were made, in {} ({})",
            machine.name(),
            report.findings.len(),
            finished.map_or("?".to_owned(), |n| n.to_string()),
            step::seconds(report.took),
            log.display()
        );
    }
    Ok(report)
}

/// The emulator, with all that it needs to boot.
fn command(arch: Arch, kernel: &Path, image: &Path) -> Result<Command> {
    let mut qemu = qemu::command(arch)?;
    let console = match arch {
        Arch::X86_64 => {
            qemu.args(["-cpu", "max"]);
            "ttyS0"
        }
        Arch::Aarch64 => {
            // The architecture's own pointer authentication is very slow to emulate.
            qemu.args(["-M", "virt", "-cpu", "max,pauth-impdef=on"]);
            "ttyAMA0"
        }
    };
    let environment = "GMPSCOPE_BIN=/gmpscope GMPSCOPE_WORKLOADS=/workloads";
    // One thread for both CPUs, and as quick. With one for each, 5.10 x86_64 stopped for good in five of eight machines
    // at a check of `full` or, once, at the check behind one: both CPUs were busy, and the kernel said nothing of it for minutes, not
    // even that it was stuck. In none of five with one thread. It is believed to be the emulation of code that
    // one CPU changes and another runs (jump labels); that it is not a race of the kernel's is not proven.
    qemu.args(["-accel", "tcg,thread=single", "-smp", "2", "-m", "1024"])
        .args(["-nographic", "-nodefaults", "-no-reboot", "-serial", "stdio"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(image)
        .arg("-append")
        .arg(format!("console={console} panic=-1 quiet {environment}"));
    Ok(qemu)
}

/// An emulator; it does not outlive us.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be killed, which is as it should be.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
