//! The ABI of process starts: what is sent about a process between `execve` and `main.main`, or in a library between
//! `execve` and the end of the runtime's inits.

/// How many processes can be on their way to `main.main` at once; further ones evict the least recently used.
pub const MAX_STARTS: u32 = 512;
/// How many threads of them can be in a system call at once.
pub const MAX_CALLS: u32 = 2_048;
/// How many kinds of system calls are distinguished.
pub const MAX_CALL_KINDS: u32 = 128;
/// How many `go` statements of one start are sent: the first few are the runtime's own.
pub const MAX_GO_STATEMENTS: u32 = 64;
/// How many processes of a followed tree can be running at once.
pub const MAX_TREE: u32 = 32_768;
/// How many binaries of a followed tree can be probed at once.
pub const MAX_BINARIES: u32 = 240;
/// How many Ps have their first binding distinguished from later ones.
pub const MAX_PS: u32 = 1_024;

/// A moment in the start of a process. Except for the first four, each is one probed instruction.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mark {
    /// The process enters `execve`.
    Execve = 0,
    /// `execve` has opened the program and is about to replace the old one (`sched_prepare_exec`, Linux 6.11).
    ExecPrepared = 1,
    /// `execve` has mapped the program (`sched_process_exec`); value: its binary, which for a process of a followed
    /// tree may also be one of [`binary`].
    Executed = 2,
    /// The main thread ends (`sched_process_exit`).
    Exited = 3,
    /// The ELF entry of the program; value: its run-time address.
    Entry = 4,
    /// `rt0_go` calls `osinit`.
    OsInit = 5,
    /// `rt0_go` calls `schedinit`.
    SchedInit = 6,
    /// `rt0_go` calls `newproc`: schedinit is done.
    NewProc = 7,
    /// `rt0_go` calls `mstart`: the main goroutine is created.
    MStart = 8,
    /// `runtime.main` begins: the main goroutine runs.
    RuntimeMain = 9,
    /// A package's init begins; value: run-time address of its first function.
    InitBegin = 10,
    /// The package's init is done.
    InitEnd = 11,
    /// `main.main` begins.
    MainMain = 12,
    /// schedinit calls `mallocinit`.
    MallocInitBegin = 13,
    /// `mallocinit` has returned.
    MallocInitEnd = 14,
    /// schedinit calls `gcinit`.
    GcInitBegin = 15,
    /// `gcinit` has returned.
    GcInitEnd = 16,
    /// schedinit calls `procresize`; value: the number of Ps.
    ProcResizeBegin = 17,
    /// `procresize` has returned.
    ProcResizeEnd = 18,
    /// `runtime.sysmon` begins, on its own thread.
    Sysmon = 19,
    /// An M takes a P that none had before; value: the P's id.
    PBound = 20,
    /// A cycle of the garbage collector starts.
    GcStart = 21,
    /// The world is being stopped.
    StopTheWorld = 22,
    /// A `go` statement; value: run-time address of the goroutine's function.
    GoStatement = 23,
    /// `runtime.main` of a library in a C program (`-buildmode=c-archive`) has run every init. It returns then:
    /// `main.main` is never called.
    LibraryReady = 24,
}

impl Mark {
    /// Every mark, in the order of its number.
    pub const ALL: [Mark; 25] = [
        Mark::Execve,
        Mark::ExecPrepared,
        Mark::Executed,
        Mark::Exited,
        Mark::Entry,
        Mark::OsInit,
        Mark::SchedInit,
        Mark::NewProc,
        Mark::MStart,
        Mark::RuntimeMain,
        Mark::InitBegin,
        Mark::InitEnd,
        Mark::MainMain,
        Mark::MallocInitBegin,
        Mark::MallocInitEnd,
        Mark::GcInitBegin,
        Mark::GcInitEnd,
        Mark::ProcResizeBegin,
        Mark::ProcResizeEnd,
        Mark::Sysmon,
        Mark::PBound,
        Mark::GcStart,
        Mark::StopTheWorld,
        Mark::GoStatement,
        Mark::LibraryReady,
    ];

    /// The mark with this number.
    pub fn from_u32(n: u32) -> Option<Self> {
        Self::ALL.get(n as usize).copied()
    }

    /// Whether nothing comes after it: the start has ended.
    pub const fn is_last(self) -> bool {
        matches!(self, Mark::Exited | Mark::MainMain | Mark::LibraryReady)
    }

    /// Whether its instruction is executed once per process (or once per package), so that it may be probed in every
    /// process of a binary.
    pub const fn is_once(self) -> bool {
        !matches!(
            self,
            Mark::PBound | Mark::GcStart | Mark::StopTheWorld | Mark::GoStatement
        )
    }
}

/// Configuration of a capture of starts. Offsets are in bytes within the kernel's `task_struct`, 0 if they are not
/// known: then the figures that need them stay 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartConfig {
    /// Device and inode of gmpscope's own PID namespace (`stat` of `/proc/self/ns/pid`): `HELD` has its PIDs.
    pub pidns_device: u64,
    /// See [`Self::pidns_device`].
    pub pidns_inode: u64,
    /// Link-time address of the ELF entry of the only binary, from which programs that know sites by their address
    /// compute the load bias of the process.
    pub entry: u64,
    /// System calls of at least this many nanoseconds are sent.
    pub slow_call_ns: u64,
    /// Which processes are followed: one of [`exec`].
    pub every_exec: u32,
    /// `task_struct.pid`.
    pub task_pid: u32,
    /// `task_struct.__state` (before 5.14 `state`).
    pub task_state: u32,
    /// `task_struct.min_flt`.
    pub task_minor_faults: u32,
    /// `task_struct.maj_flt`.
    pub task_major_faults: u32,
    /// Number of the system call `execve`.
    pub execve: u32,
    /// Number of the system call `execveat`.
    pub execveat: u32,
    /// `task_struct.tgid`.
    pub task_tgid: u32,
    /// 1: processes in `HELD` are followed with all their descendants, at each `execve`; 0: only at their next one.
    pub tree: u32,
    /// Zero.
    pub reserved: u32,
}

/// Which processes are followed from their `execve` on.
pub mod exec {
    /// Processes in `HELD`, from the entry of the system call on.
    pub const HELD: u32 = 0;
    /// Every process, from the opening of the file on.
    pub const EVERY: u32 = 1;
    /// Processes in `HELD`, from the opening of the file on: they are added to it during the opening.
    pub const GATED: u32 = 2;
}

/// What is known of an executed program, if not the number of a probed binary.
pub mod binary {
    /// The program cannot be traced.
    pub const NOT_TRACED: u32 = u32::MAX;
    /// The program was not examined.
    pub const UNKNOWN: u32 = u32::MAX - 1;
    /// The process continued before its program was known.
    pub const UNREADY: u32 = u32::MAX - 2;

    /// Whether this is the number of a binary, and not one of the above.
    pub const fn is_traced(binary: u32) -> bool {
        binary < UNREADY
    }
}

/// A process on its way to `main.main`. Key: its tgid in the initial PID namespace. Except for `ps_bound` and `seen`,
/// fields are changed only by programs on its own main thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// When its main thread left the CPU; 0 while it is running.
    pub off_since_ns: u64,
    /// How long its main thread has slept.
    pub asleep_ns: u64,
    /// How long its main thread was runnable without a CPU.
    pub waiting_ns: u64,
    /// Run-time minus link-time address, for programs that know sites by their address.
    pub bias: u64,
    /// Bit n: P n was bound.
    pub ps_bound: [u64; MAX_PS as usize / 64],
    /// Bit n: mark n was sent and must not be sent again.
    pub seen: u32,
    /// Number of `go` statements sent.
    pub go_statements: u32,
    /// Whether a sleep began at `off_since_ns`.
    pub asleep: u32,
    /// One of [`phase`].
    pub phase: u32,
    /// Index of the target whose ELF entry was reached; [`NO_TARGET`] before.
    pub target: u32,
    /// The binary that it runs, for programs that know sites by their address.
    pub binary: u32,
    /// The thread that is in `execve`.
    pub executing: u32,
    /// Zero.
    pub reserved: u32,
}

/// The target of a process whose program is not known yet.
pub const NO_TARGET: u32 = u32::MAX;

/// Phases of a start.
pub mod phase {
    /// In `execve`. If the process has several threads, all others end in it, even the first one.
    pub const EXECUTING: u32 = 0;
    /// Past `execve`, perhaps in the loader: it is not known yet whether this is a traced program.
    pub const CANDIDATE: u32 = 1;
    /// Its ELF entry was reached.
    pub const STARTING: u32 = 2;
    /// `main.main` was reached, or the library is ready: nothing more is sent.
    pub const DONE: u32 = 3;
}

/// One [`Mark`] of one process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartEvent {
    /// When, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// The value that the mark's documentation describes.
    pub value: u64,
    /// How long the main thread had slept by then.
    pub asleep_ns: u64,
    /// How long it had been runnable without a CPU by then.
    pub waiting_ns: u64,
    /// Page faults of the thread so far that needed no I/O.
    pub minor_faults: u64,
    /// Page faults of the thread so far that needed I/O.
    pub major_faults: u64,
    /// Process, in the initial PID namespace.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// A [`Mark`].
    pub mark: u32,
    /// Process in gmpscope's own PID namespace; 0 if it has no id there.
    pub pid: u32,
    /// Index of the target, which stands for a binary; [`NO_TARGET`] before its ELF entry was reached.
    pub target: u32,
    /// Zero.
    pub reserved: u32,
}

/// Kinds of system calls, by the argument that names the object.
pub mod call_kind {
    /// A descriptor in argument 0, or nothing.
    pub const DESCRIPTOR: u32 = 0;
    /// A path in argument 0.
    pub const PATH_0: u32 = 1;
    /// A path in argument 1.
    pub const PATH_1: u32 = 2;
    /// `connect`: a socket address in argument 1. Always sent, however fast.
    pub const CONNECT: u32 = 3;
    /// Idle threads wait in it: sent for the main thread only.
    pub const IDLE: u32 = 4;
    /// It opens the path in argument 0. Always sent, however fast: later calls only have the descriptor.
    pub const OPEN_0: u32 = 5;
    /// It opens the path in argument 1. Likewise always sent.
    pub const OPEN_1: u32 = 6;
}

/// Bytes of a path or socket address that are sent.
pub const CALL_TEXT: usize = 112;

/// A system call that has not returned yet. Key: its thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// When it began.
    pub at_ns: u64,
    /// Its first three arguments.
    pub args: [u64; 3],
    /// Its number.
    pub number: u32,
    /// Its process.
    pub tgid: u32,
}

/// A system call that has returned.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallEvent {
    /// When it returned.
    pub at_ns: u64,
    /// How long it took.
    pub duration_ns: u64,
    /// Its return value: a negated errno if it failed.
    pub result: i64,
    /// Its first argument.
    pub descriptor: u64,
    /// Process.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// Its number.
    pub number: u32,
    /// One of [`call_kind`].
    pub kind: u32,
    /// The path, terminated by a zero byte, or the socket address; all zero if it could not be read.
    pub text: [u8; CALL_TEXT],
}

const _: () = {
    assert!(core::mem::size_of::<StartConfig>() == 72);
    assert!(core::mem::size_of::<Start>() == 192);
    assert!(core::mem::size_of::<StartEvent>() == 72);
    assert!(core::mem::size_of::<Call>() == 40);
    assert!(core::mem::size_of::<CallEvent>() == 160);
};
