//! Runs one virtual machine, from its boot until it powers off.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Machine;
use super::report::{Finding, Report};
use crate::arch::Arch;
use crate::process::Running;
use crate::setup::kernels::Kernel;
use crate::setup::qemu;
use crate::{paths, step};

/// The prefix of lines that the guest prints; all others are the kernel's.
const MARK: &str = "guest: ";
/// How long all checks of one machine may take.
const TIME_LIMIT: Duration = Duration::from_secs(900);
/// How many of the last lines are shown with an error.
const SHOWN_LINES: usize = 30;

/// Boots a kernel, prints each finding as it comes, and waits until the machine is off.
///
/// # Errors
/// The machine did not boot, or its checks did not finish.
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
        .context("the machine's console is not a pipe")?;
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
        let left = TIME_LIMIT.saturating_sub(began.elapsed());
        let Ok(line) = lines.recv_timeout(left) else { break };
        // The firmware or the kernel may have printed the beginning of the line.
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
                // The number of findings will be wrong, which is an error below.
                Err(why) => println!("   cannot be parsed ({why}): {json}"),
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
            "the checks on {} did not finish: {} findings were read, of {} that were made, in {} ({})",
            machine.name(),
            report.findings.len(),
            finished.map_or("?".to_owned(), |n| n.to_string()),
            step::seconds(report.took),
            log.display()
        );
    }
    Ok(report)
}

/// The command that boots the machine.
fn command(arch: Arch, kernel: &Path, image: &Path) -> Result<Command> {
    let mut qemu = qemu::command(arch)?;
    let console = match arch {
        Arch::X86_64 => {
            qemu.args(["-cpu", "max"]);
            "ttyS0"
        }
        Arch::Aarch64 => {
            // The architected algorithm of pointer authentication is very slow to emulate.
            qemu.args(["-M", "virt", "-cpu", "max,pauth-impdef=on"]);
            "ttyAMA0"
        }
    };
    let environment = "GMPSCOPE_BIN=/gmpscope GMPSCOPE_WORKLOADS=/workloads";
    // One thread emulates both CPUs, and is as quick as two. With two threads, 5.10 x86_64 hung in five of eight
    // machines at a check of `full` or, once, at the check after one: both CPUs were busy, and the kernel printed
    // nothing for minutes, not even a soft lockup. With one thread it hung in none of five. The probable cause is the
    // emulation of code that one CPU modifies while the other runs it (jump labels); a race in the kernel is not ruled
    // out.
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
