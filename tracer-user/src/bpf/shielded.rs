//! System calls that complete even if gmpscope is killed meanwhile.
//!
//! A task that is being killed cannot fault pages in (`__get_user_pages`, mm/gup.c), which the kernel does to write and to
//! remove breakpoints. So a SIGKILL in the middle of attaching or detaching makes it give up half-way: it logs "failed to
//! unregister, leaking uprobe", and breakpoints without a probe stay in the target's text, each costing a trap per hit,
//! until the target ends (seen on 6.18, in one of some fifty captures that were killed at a random moment).
//!
//! So a separate process makes these calls. It shares our memory and descriptors, like the child of posix_spawn(3) before
//! its execve(2), but does not get our signals. If we are gone by then, it alone has the descriptors, and closes them when
//! it ends, undisturbed. It makes one system call and takes no lock, since the owner of the lock may have been killed. A
//! kill of the whole control group kills it, too.

use std::{
    ffi::{c_int, c_long, c_void},
    io,
    os::fd::{IntoRawFd as _, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

/// Bytes of the process's stack, enough for two wrappers of system calls in the C library.
const STACK: usize = 64 << 10;

/// Most arguments of the calls that are made this way.
const MOST_ARGUMENTS: usize = 5;

/// A system call and its result.
struct Call {
    number: c_long,
    arguments: [c_long; MOST_ARGUMENTS],
    /// Whether the call was begun.
    is_begun: AtomicBool,
    /// As the kernel returns it: an errno is negative. `None` before the call has returned.
    result: Option<c_long>,
}

/// Makes a system call that completes even if we are killed.
///
/// # Safety
/// As for the call itself; every pointer in its arguments must be valid for what the call does with it.
///
/// # Errors
/// The kernel's errno.
pub unsafe fn syscall<const N: usize>(number: c_long, arguments: [c_long; N]) -> io::Result<c_long> {
    const { assert!(N <= MOST_ARGUMENTS) };
    let mut all = [0; MOST_ARGUMENTS];
    all.iter_mut().zip(arguments).for_each(|(to, from)| *to = from);
    let mut call = Call {
        number,
        arguments: all,
        is_begun: AtomicBool::new(false),
        result: None,
    };
    if let Err(e) = in_separate_process(&mut call) {
        log::debug!("no process for a system call ({e}): made by this one");
    }
    let result = match call.result {
        Some(result) => result,
        // The process was killed in the middle. A descriptor must not be closed again: it may be another one by now.
        None if call.is_begun.load(Ordering::SeqCst) => -c_long::from(libc::EINTR),
        // There was no process, or a filter of system calls has ended it first.
        None => make(&call),
    };
    match result {
        0.. => Ok(result),
        errno => Err(io::Error::from_raw_os_error(errno.unsigned_abs() as i32)),
    }
}

/// Closes a descriptor whose closing removes probes.
pub fn close(fd: OwnedFd) {
    // SAFETY: the descriptor is ours, and nobody uses it any more.
    let closed = unsafe { syscall(libc::SYS_close, [c_long::from(fd.into_raw_fd())]) };
    if let Err(e) = closed {
        log::debug!("closing a link: {e}");
    }
}

/// Makes the call in a separate process, and waits for it.
fn in_separate_process(call: &mut Call) -> io::Result<()> {
    // Signals to our process group must not run our handlers in the child: we would see them as second signals.
    let before = block_signals()?;
    let mut stack: Vec<u128> = vec![0; STACK / size_of::<u128>()];
    // CLONE_VFORK: this thread sleeps until the process has ended. Its end sends no signal.
    let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_VFORK;
    // SAFETY: `child` takes a pointer to a `Call`. Its stack is its own and, like `call`, lives until this thread runs
    // again, or for ever if this thread is killed.
    let pid = unsafe {
        libc::clone(
            child,
            stack.as_mut_ptr_range().end.cast(),
            flags,
            (&raw mut *call).cast(),
        )
    };
    let result = match pid {
        ..0 => Err(io::Error::last_os_error()),
        _ => {
            wait_for(pid);
            Ok(())
        }
    };
    restore_signals(&before);
    drop(stack);
    result
}

extern "C" fn child(call: *mut c_void) -> c_int {
    // SAFETY: makes one system call, which takes the process out of reach of signals to our process group.
    unsafe { libc::setsid() };
    // SAFETY: `in_separate_process` passes a pointer to a `Call` that nobody else uses meanwhile.
    let call = unsafe { &mut *call.cast::<Call>() };
    call.is_begun.store(true, Ordering::SeqCst);
    call.result = Some(make(call));
    0
}

fn make(call: &Call) -> c_long {
    let [a, b, c, d, e] = call.arguments;
    // SAFETY: `syscall`'s caller vouches for the arguments.
    let result = unsafe { libc::syscall(call.number, a, b, c, d, e) };
    match result {
        0.. => result,
        _ => -c_long::from(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)),
    }
}

/// Reaps the process.
fn wait_for(pid: c_int) {
    loop {
        // SAFETY: no status is asked for. `__WALL`: its end sends no signal.
        let waited = unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
        if waited >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

fn block_signals() -> io::Result<libc::sigset_t> {
    // SAFETY: a signal set is plain data, and both are valid places for one.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut before) {
            0 => Ok(before),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

fn restore_signals(before: &libc::sigset_t) {
    // SAFETY: the set is a valid one, and the old one is not asked for. It fails for an unknown first argument alone.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read as _, Write as _},
        os::fd::{AsRawFd as _, FromRawFd as _},
    };

    use super::*;

    #[test]
    fn another_process_makes_the_call() {
        // SAFETY: takes nothing.
        let pid = unsafe { syscall(libc::SYS_getpid, []) }.unwrap();
        assert_ne!(pid, c_long::from(std::process::id()));
        // SAFETY: asks whether the process exists.
        let there = unsafe { libc::kill(pid as i32, 0) };
        assert_eq!(there, -1, "and has ended");
    }

    #[test]
    fn descriptors_are_ours_too() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        // SAFETY: takes a number.
        let copy = unsafe { syscall(libc::SYS_dup, [c_long::from(writer.as_raw_fd())]) }.unwrap();
        // SAFETY: the call has made it for us.
        let mut copy = unsafe { File::from_raw_fd(copy as i32) };
        copy.write_all(b"x").unwrap();
        close(copy.into());
        close(writer.into());
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x", "and then the pipe ends");
    }

    #[test]
    fn errors_and_signals_are_as_without() {
        // SAFETY: takes a number.
        let error = unsafe { syscall(libc::SYS_dup, [-1]) }.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        // SAFETY: the set is a valid place for one.
        let blocked = unsafe {
            let mut now = std::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut now);
            libc::sigismember(&raw const now, libc::SIGTERM)
        };
        assert_eq!(blocked, 0);
    }
}
