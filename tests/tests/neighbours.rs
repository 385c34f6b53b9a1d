//! Captures of one process know of each other, and of nobody who only pretends to be one.

use std::io;
use std::mem::size_of;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gmpscope_tests::privilege::become_user;
use gmpscope_tests::scenario::Case;
use gmpscope_tests::{Attach, Variant, Workload, machine, toolchain};

/// A user that may not trace our processes.
const NOBODY: u32 = 65534;
/// How many names are forged.
const NAMES: u32 = 268;

fn start() -> Result<Workload> {
    let mut workload = Case::new(&toolchain::newest()?, Variant::Stripped, "mixed").start()?;
    workload.go()?;
    Ok(workload)
}

/// The beginning of the names of all captures of a process: its PID and start time.
fn prefix(pid: u32) -> Result<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the process may hold anything, up to the last parenthesis.
    let rest = stat.rsplit_once(')').context("no name")?.1;
    let start = rest.split_whitespace().nth(19).context("no start time")?;
    Ok(format!("gmpscope/{pid}/{start}/"))
}

/// A process of another user that forges names or messages; killed on drop.
struct Forger(Child);

impl Forger {
    /// Calls `forge` in a process that then becomes `sleep`, which keeps its sockets since they are not `CLOEXEC`.
    fn start(uid: u32, forge: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Result<Self> {
        let mut command = Command::new("sleep");
        command
            .arg("120")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        become_user(&mut command, uid, 0);
        // SAFETY: the closures given here make system calls and format short texts.
        unsafe { command.pre_exec(forge) };
        Ok(Self(command.spawn().context("starting one that forges")?))
    }
}

impl Drop for Forger {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// Makes an abstract socket address.
fn address(name: &str) -> (libc::sockaddr_un, libc::socklen_t) {
    let mut address = libc::sockaddr_un {
        sun_family: libc::AF_UNIX as libc::sa_family_t,
        sun_path: [0; 108],
    };
    for (to, from) in address.sun_path.iter_mut().skip(1).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let length = size_of::<libc::sa_family_t>() + 1 + name.len();
    (address, length as libc::socklen_t)
}

fn socket(kind: i32) -> io::Result<i32> {
    // SAFETY: numbers only.
    checked(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })
}

/// Binds a name, and listens if the kind of socket can.
fn bound(kind: i32, name: &str) -> io::Result<()> {
    let (address, length) = address(name);
    let fd = socket(kind)?;
    // SAFETY: the address is valid for `length` bytes.
    checked(unsafe { libc::bind(fd, (&raw const address).cast(), length) })?;
    if kind == libc::SOCK_SEQPACKET {
        // SAFETY: numbers only.
        checked(unsafe { libc::listen(fd, 8) })?;
    }
    Ok(())
}

/// Sends a message to whoever listens to a name.
fn say(name: &str, message: &str) -> io::Result<()> {
    let (address, length) = address(name);
    let fd = socket(libc::SOCK_SEQPACKET)?;
    // SAFETY: the address is valid for `length` bytes, the message for its own length.
    unsafe {
        checked(libc::connect(fd, (&raw const address).cast(), length))?;
        checked(libc::send(fd, message.as_ptr().cast(), message.len(), 0) as i32)?;
    }
    Ok(())
}

fn checked(result: i32) -> io::Result<i32> {
    match result {
        0.. => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends these captures in this order, and returns how many others each knew of.
fn known(captures: impl IntoIterator<Item = gmpscope_tests::Tracer>) -> Result<Vec<u64>> {
    captures
        .into_iter()
        .map(|tracer| Ok(tracer.interrupt()?.captured()?.capture.concurrent_captures))
        .collect()
}

#[test]
fn forged_names_count_for_nothing() -> Result<()> {
    let _one = machine();
    let target = start()?;
    let prefix = prefix(target.pid())?;
    let forged = prefix.clone();
    let _forger = Forger::start(NOBODY, move || {
        // The first names have the forger's own PID, the others PIDs of other processes or of none.
        for n in 0..8 {
            bound(
                libc::SOCK_SEQPACKET,
                &format!("{forged}{}/{n}", std::process::id()),
            )?;
        }
        for pid in 1..NAMES {
            bound(libc::SOCK_SEQPACKET, &format!("{forged}{pid}/0"))?;
            bound(libc::SOCK_DGRAM, &format!("{forged}{pid}"))?;
        }
        bound(libc::SOCK_SEQPACKET, &format!("{forged}not\nnumbers"))
    })?;
    let first = Attach::to(target.pid()).mode("passive").start()?;
    let second = Attach::to(target.pid()).mode("sampled").start()?;
    // Both have looked again by then, and know each other in spite of those names.
    std::thread::sleep(Duration::from_millis(1500));
    ensure!(
        known([second, first])? == [1, 1],
        "they do not know of each other alone"
    );
    Ok(())
}

#[test]
fn forged_messages_count_for_nothing() -> Result<()> {
    let _one = machine();
    let target = start()?;
    let prefix = prefix(target.pid())?;
    let first = Attach::to(target.pid()).mode("passive").start()?;
    let listener = format!("{prefix}{}/0", first.pid());
    let listed = std::fs::read_to_string("/proc/net/unix")?;
    ensure!(
        listed.contains(&listener),
        "it does not listen to {listener}:\n{listed}"
    );
    let _forgers = (0..8)
        .map(|n| {
            let listener = listener.clone();
            Forger::start(NOBODY, move || {
                say(&listener, &format!("{}/{n}", std::process::id()))?;
                say(&listener, "1/0")
            })
        })
        .collect::<Result<Vec<_>>>()?;
    std::thread::sleep(Duration::from_millis(1500));
    ensure!(known([first])? == [0], "it believes forged messages");
    Ok(())
}

#[test]
fn what_root_says_is_believed() -> Result<()> {
    let _one = machine();
    let target = start()?;
    let prefix = prefix(target.pid())?;
    let first = Attach::to(target.pid()).mode("passive").start()?;
    let listener = format!("{prefix}{}/0", first.pid());
    // The same as the forgers of the other test do, but as root.
    let caller = Forger::start(0, move || say(&listener, &format!("{}/0", std::process::id())))?;
    drop(caller);
    ensure!(
        known([first])? == [1],
        "a capture that came and went is forgotten"
    );
    Ok(())
}

#[test]
fn captures_of_several_users_find_each_other() -> Result<()> {
    let _one = machine();
    let target = start()?;
    let began = Instant::now();
    let root = Attach::to(target.pid()).mode("passive").start()?;
    let able = Attach::to(target.pid())
        .mode("passive")
        .user_with(NOBODY, &[gmpscope_tests::privilege::CAP_SYS_PTRACE])
        .start()?;
    std::thread::sleep(Duration::from_millis(1500));
    ensure!(known([root, able])? == [1, 1], "after {:?}", began.elapsed());
    Ok(())
}
