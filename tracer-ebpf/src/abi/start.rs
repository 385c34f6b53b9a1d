//! The ABI of process starts: what is sent of a process between `execve` and `main.main`.

/// How many processes can be on their way to `main.main` at once; the least recently used one gives way.
pub const MAX_STARTS: u32 = 512;
/// How many threads of those can be inside a system call at once.
pub const MAX_CALLS: u32 = 2_048;
/// How many kinds of system calls are told apart.
pub const MAX_CALL_KINDS: u32 = 128;
/// How many `go` statements of one start are sent: the first few are the runtime's own.
pub const MAX_GO_STATEMENTS: u32 = 64;
/// How many processes of a tree that is followed can live at once.
pub const MAX_TREE: u32 = 32_768;
/// How many binaries of a tree that is followed can be probed at once.
pub const MAX_BINARIES: u32 = 240;
/// Ps whose first binding is told apart from later ones.
pub const MAX_PS: u32 = 1_024;

/// A moment in the start of a process. Each but the first four stands for one probed instruction.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mark {
    /// The process enters `execve`.
    Execve = 0,
    /// `execve` has opened the program and is about to replace the old one (`sched_prepare_exec`, Linux 6.11).
    ExecPrepared = 1,
    /// `execve` has mapped the program (`sched_process_exec`); value: its binary, which of a process in a tree that is
    /// followed may also be one of [`binary`].
    Executed = 2,
    /// The main thread ends (`sched_process_exit`).
    Exited = 3,
    /// The ELF entry of the program; value: run-time address of it.
    Entry = 4,
    /// `rt0_go` calls `osinit`.
    OsInit = 5,
    /// `rt0_go` calls `schedinit`.
    SchedInit = 6,
    /// `rt0_go` calls `newproc`: schedinit is done.
    NewProc = 7,
    /// `rt0_go` calls `mstart`: the main goroutine is made.
    MStart = 8,
    /// `runtime.main` begins: the main goroutine runs.
    RuntimeMain = 9,
    /// A package's init begins; value: run-time address of its first function.
    InitBegin = 10,
    /// It is done.
    InitEnd = 11,
    /// `main.main` begins.
    MainMain = 12,
    /// schedinit calls `mallocinit`.
    MallocInitBegin = 13,
    /// It is back.
    MallocInitEnd = 14,
    /// schedinit calls `gcinit`.
    GcInitBegin = 15,
    /// It is back.
    GcInitEnd = 16,
    /// schedinit calls `procresize`; value: the number of Ps.
    ProcResizeBegin = 17,
    /// It is back.
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
}

impl Mark {
    /// Every mark, in the order of its number.
    pub const ALL: [Mark; 24] = [
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
    ];

    /// The mark with this number.
    pub fn from_u32(n: u32) -> Option<Self> {
        Self::ALL.get(n as usize).copied()
    }

    /// Whether its instruction is executed once in the life of a process (or once for each package), so that
    /// it may be probed in every process of a binary.
    pub const fn is_once(self) -> bool {
        !matches!(
            self,
            Mark::PBound | Mark::GcStart | Mark::StopTheWorld | Mark::GoStatement
        )
    }
}

/// What the programs must know of this capture of starts. Offsets are in bytes within the kernel's
/// `task_struct`, 0 where they are not known: then the figures that need them stay 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartConfig {
    /// Device and inode of gmpscope's own PID namespace (`stat` of `/proc/self/ns/pid`): `HELD` has its PIDs.
    pub pidns_device: u64,
    /// See [`Self::pidns_device`].
    pub pidns_inode: u64,
    /// Link-time address of the ELF entry of the only binary, for programs that know sites by their address: it
    /// tells how far the process is from its link-time addresses.
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
    /// 1: processes in `HELD` are followed with all that descend from them, at each `execve`; 0: at their next one.
    pub tree: u32,
    /// Zero.
    pub reserved: u32,
}

/// Which processes are followed from their `execve` on.
pub mod exec {
    /// Those in `HELD`, from the entry of the system call on.
    pub const HELD: u32 = 0;
    /// Every one, from where the file is open.
    pub const EVERY: u32 = 1;
    /// Those in `HELD`, from where the file is open: they are put there while that is waited for.
    pub const GATED: u32 = 2;
}

/// What is known of a program that is executed, besides the number of a binary that is probed.
pub mod binary {
    /// It is none that can be traced.
    pub const NOT_TRACED: u32 = u32::MAX;
    /// Nobody has looked at it.
    pub const UNKNOWN: u32 = u32::MAX - 1;
    /// It went on before it was known.
    pub const UNREADY: u32 = u32::MAX - 2;

    /// Whether it is the number of a binary, and none of the above.
    pub const fn is_traced(binary: u32) -> bool {
        binary < UNREADY
    }
}

/// A process on its way to `main.main`. Key: its tgid in the initial PID namespace. What changes while it
/// runs is changed by programs on its own main thread, but for `ps_bound` and `seen`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Since when its main thread does not run; 0 while it does.
    pub off_since_ns: u64,
    /// How long its main thread has slept.
    pub asleep_ns: u64,
    /// How long its main thread could have run and did not.
    pub waiting_ns: u64,
    /// Run-time minus link-time address, for programs that know sites by their address.
    pub bias: u64,
    /// Bit n: P n was bound.
    pub ps_bound: [u64; MAX_PS as usize / 64],
    /// Bit n: mark n was sent and is not to be sent again.
    pub seen: u32,
    /// `go` statements sent.
    pub go_statements: u32,
    /// Whether `off_since_ns` is the begin of a sleep.
    pub asleep: u32,
    /// One of [`phase`].
    pub phase: u32,
    /// Index of the target whose ELF entry was reached; [`NO_TARGET`] before.
    pub target: u32,
    /// Which binary it runs, for programs that know sites by their address.
    pub binary: u32,
    /// Thread that is in `execve`.
    pub executing: u32,
    /// Zero.
    pub reserved: u32,
}

/// Stands for the target of a process of which nobody knows yet which program it runs.
pub const NO_TARGET: u32 = u32::MAX;

/// How far a start is.
pub mod phase {
    /// In `execve`. Of a process with several threads all others end in it, the first one too.
    pub const EXECUTING: u32 = 0;
    /// Past `execve`, perhaps in the loader: nobody knows yet whether it is the program that is meant.
    pub const CANDIDATE: u32 = 1;
    /// Its ELF entry was reached.
    pub const STARTING: u32 = 2;
    /// `main.main` was reached: nothing of it is sent any more.
    pub const DONE: u32 = 3;
}

/// One [`Mark`] of one process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartEvent {
    /// When, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// What the mark's documentation says.
    pub value: u64,
    /// How long the main thread had slept by then.
    pub asleep_ns: u64,
    /// How long it could have run and did not.
    pub waiting_ns: u64,
    /// Page faults of the thread so far that needed no I/O.
    pub minor_faults: u64,
    /// Those that did.
    pub major_faults: u64,
    /// Process, in the initial PID namespace.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// A [`Mark`].
    pub mark: u32,
    /// Process in gmpscope's own PID namespace; 0 where it has none.
    pub pid: u32,
    /// Index of the target, which stands for a binary; [`NO_TARGET`] before its ELF entry was reached.
    pub target: u32,
    /// Zero.
    pub reserved: u32,
}

/// How a system call's arguments name what it works on.
pub mod call_kind {
    /// By nothing, or by a descriptor in argument 0.
    pub const DESCRIPTOR: u32 = 0;
    /// By a path in argument 0.
    pub const PATH_0: u32 = 1;
    /// By a path in argument 1.
    pub const PATH_1: u32 = 2;
    /// `connect`: by a socket address in argument 1. Sent however fast it is.
    pub const CONNECT: u32 = 3;
    /// Threads with nothing to do wait in it: sent of the main thread only.
    pub const IDLE: u32 = 4;
    /// It opens the path in argument 0. Sent however fast it is: later calls name the descriptor alone.
    pub const OPEN_0: u32 = 5;
    /// It opens the path in argument 1. Likewise.
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
    /// What it returned: a negated errno where it failed.
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
    /// The path, ended by a zero byte, or the socket address; all zero where it could not be read.
    pub text: [u8; CALL_TEXT],
}

const _: () = {
    assert!(core::mem::size_of::<StartConfig>() == 72);
    assert!(core::mem::size_of::<Start>() == 192);
    assert!(core::mem::size_of::<StartEvent>() == 72);
    assert!(core::mem::size_of::<Call>() == 40);
    assert!(core::mem::size_of::<CallEvent>() == 160);
};
