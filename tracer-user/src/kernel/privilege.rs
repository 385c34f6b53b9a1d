//! Our privileges, and advice for the user where they are not enough.

use std::{fmt, fs, io};

use procfs::{FromBufRead as _, process::Status};

use super::release;
use crate::error::{Error, Failure};

/// Inode of the initial PID namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
/// Inode of the initial user namespace (`PROC_USER_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// A capability that gmpscope uses, by its number in include/uapi/linux/capability.h.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Opening files that only their owner may read.
    DacReadSearch = 2,
    /// Reading another process's memory, maps and executable.
    SysPtrace = 19,
    /// Stands for `Perfmon` and `Bpf` as well.
    SysAdmin = 21,
    /// Raising resource limits.
    SysResource = 24,
    /// Opening probes, and programs that read memory.
    Perfmon = 38,
    /// Making maps, loading programs.
    Bpf = 39,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysResource => "CAP_SYS_RESOURCE",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        })
    }
}

/// An operation, by the privilege that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Reading another process: its memory, `/proc/PID/{maps,exe,root}`.
    ReadProcess,
    /// Creating BPF maps and loading programs.
    LoadPrograms,
    /// Probing a process.
    OpenProbe,
}

impl Need {
    /// The capabilities that it takes.
    pub const fn capabilities(self) -> &'static [Capability] {
        match self {
            Self::ReadProcess => &[Capability::SysPtrace],
            Self::LoadPrograms => &[Capability::Bpf, Capability::Perfmon],
            Self::OpenProbe => &[Capability::Perfmon],
        }
    }
}

/// The privileges of this process. Unknown where /proc cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Privileges {
    /// Effective user id.
    pub euid: Option<u32>,
    /// Effective capabilities, one bit each.
    pub effective: Option<u64>,
    /// Whether we are in the initial PID namespace.
    pub initial_pid_namespace: Option<bool>,
    /// Whether we are in the initial user namespace; in another, capabilities allow little.
    pub initial_user_namespace: Option<bool>,
    /// Whether a seccomp filter is active, as in most containers.
    pub seccomp_filter: Option<bool>,
}

impl Privileges {
    /// Reads the privileges of this process.
    pub fn ours() -> Self {
        // Our own name, which is in it, may hold any bytes, too.
        let status = fs::read("/proc/self/status")
            .ok()
            .and_then(|bytes| Status::from_buf_read(String::from_utf8_lossy(&bytes).as_bytes()).ok());
        Self {
            euid: status.as_ref().map(|s| s.euid),
            effective: status.as_ref().map(|s| s.capeff),
            initial_pid_namespace: namespace("pid").map(|inode| inode == INITIAL_PID_NAMESPACE),
            initial_user_namespace: namespace("user").map(|inode| inode == INITIAL_USER_NAMESPACE),
            seccomp_filter: status.as_ref().and_then(|s| s.seccomp).map(|mode| mode == 2),
        }
    }

    /// Whether we have this capability, directly or because `CAP_SYS_ADMIN` includes it. Assumed if it is not known:
    /// the attempt will show.
    pub fn has(&self, capability: Capability) -> bool {
        let bit = |c: Capability| self.effective.is_none_or(|all| all & (1 << c as u8) != 0);
        match capability {
            Capability::Perfmon | Capability::Bpf => bit(capability) || bit(Capability::SysAdmin),
            _ => bit(capability),
        }
    }

    /// The capabilities that are missing for `need`.
    pub fn missing_for(&self, need: Need) -> Vec<Capability> {
        need.capabilities()
            .iter()
            .copied()
            .filter(|&c| !self.has(c))
            .collect()
    }
}

/// Inode of one of our namespaces.
fn namespace(kind: &str) -> Option<u64> {
    let link = fs::read_link(format!("/proc/self/ns/{kind}")).ok()?;
    link.to_str()?
        .strip_prefix(kind)?
        .strip_prefix(":[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

/// The first line of a small file of the kernel, if it exists.
pub fn kernel_setting(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_string())
}

/// The kernel's lockdown mode: `none`, `integrity` or `confidentiality`; `None` if it is not known (this kernel has no
/// lockdown, or securityfs is not mounted).
pub fn lockdown() -> Option<String> {
    let all = kernel_setting("/sys/kernel/security/lockdown")?;
    all.split_whitespace()
        .find_map(|word| Some(word.strip_prefix('[')?.strip_suffix(']')?.to_string()))
}

/// The error for an operation that the kernel refused with `EPERM` or `EACCES`: what is missing, and how to get it.
/// Other causes become a plain failure. `what` continues "cannot …", as in `read the memory of process 4711`.
pub fn privilege_hint(cause: &io::Error, need: Need, what: &str) -> Error {
    hint(cause, need, what, &Privileges::ours(), &Obstacles::here())
}

/// Why the kernel most likely refused an operation with this need, and what to do.
pub fn advice(need: Need) -> String {
    advise(need, &Privileges::ours(), &Obstacles::here())
}

/// Settings of this machine that may refuse even privileged operations.
#[derive(Clone, Debug, Default)]
struct Obstacles {
    lockdown: Option<String>,
    ptrace_scope: Option<String>,
    perf_event_paranoid: Option<String>,
    /// KiB of memory that we may lock, if BPF maps count as locked.
    locked_memory: Option<u64>,
}

impl Obstacles {
    fn here() -> Self {
        Self {
            lockdown: lockdown(),
            ptrace_scope: kernel_setting("/proc/sys/kernel/yama/ptrace_scope"),
            perf_event_paranoid: kernel_setting("/proc/sys/kernel/perf_event_paranoid"),
            locked_memory: rustix::process::getrlimit(rustix::process::Resource::Memlock)
                .current
                .filter(|_| release::counts_locked_memory(&release::release()))
                .map(|bytes| bytes >> 10),
        }
    }
}

fn hint(cause: &io::Error, need: Need, what: &str, ours: &Privileges, here: &Obstacles) -> Error {
    if cause.kind() != io::ErrorKind::PermissionDenied {
        return Error::failed(format!("cannot {what}: {cause}"));
    }
    Error {
        failure: Failure::NotPermitted,
        message: format!(
            "cannot {what}: {cause}. {} Run `gmpscope doctor` for details.",
            advise(need, ours, here)
        ),
    }
}

/// The most likely reason for a refusal, with advice. The most certain ones are tried first.
fn advise(need: Need, ours: &Privileges, here: &Obstacles) -> String {
    let missing = ours.missing_for(need);
    let paranoid = here
        .perf_event_paranoid
        .as_deref()
        .and_then(|level| level.parse::<i32>().ok());
    if !missing.is_empty() {
        let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let who = ours.euid.map_or_else(
            || "gmpscope".to_string(),
            |uid| format!("gmpscope, as user {uid},"),
        );
        return format!(
            "{who} lacks {}. Run it as root, or give it the capabilities: sudo setcap \
             cap_bpf,cap_perfmon,cap_sys_ptrace+ep \"$(command -v gmpscope)\".",
            missing.join(" and ")
        );
    }
    if ours.initial_user_namespace == Some(false) {
        return "gmpscope runs in a user namespace (a rootless container), where capabilities do not count \
                for this. Run it on the host, or in a container with --privileged."
            .into();
    }
    if need == Need::ReadProcess && here.ptrace_scope.as_deref() == Some("3") {
        return "kernel.yama.ptrace_scope is 3, which forbids it to everyone until the next boot.".into();
    }
    if need == Need::LoadPrograms
        && let Some(limit) = here.locked_memory
        && !ours.has(Capability::SysResource)
    {
        return format!(
            "This kernel (Linux before 5.11) counts BPF maps as locked memory, of which gmpscope may have \
             {limit} KiB. Raise the limit (ulimit -l unlimited; LimitMEMLOCK=infinity in a systemd unit), or give \
             it CAP_SYS_RESOURCE."
        );
    }
    if need == Need::OpenProbe && !ours.has(Capability::SysAdmin) {
        return format!(
            "A uprobe by perf event takes CAP_SYS_ADMIN on some kernels (seen on 6.18){}. Run gmpscope as root; \
             on Linux 6.10 and newer it attaches by uprobe_multi, which does not.",
            match paranoid {
                Some(level) if level > 2 =>
                    format!(", and kernel.perf_event_paranoid={level} asks for it, too"),
                _ => String::new(),
            }
        );
    }
    if need != Need::ReadProcess && here.lockdown.as_deref() == Some("confidentiality") {
        return "The kernel is locked down to confidentiality, which keeps tracers out. --mode passive may \
                still work."
            .into();
    }
    if ours.seccomp_filter == Some(true) {
        return "gmpscope has the capabilities, so most likely its container's seccomp profile forbids it: \
                run the container with --privileged, or with --security-opt seccomp=unconfined."
            .into();
    }
    "gmpscope has the capabilities, so most likely a security module (SELinux, AppArmor) forbids it: look at \
     the kernel's log and the audit log."
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Privileges {
        Privileges {
            euid: Some(0),
            effective: Some(u64::MAX),
            initial_pid_namespace: Some(true),
            initial_user_namespace: Some(true),
            seccomp_filter: Some(false),
        }
    }

    fn advice_for(need: Need, ours: &Privileges, here: &Obstacles) -> String {
        let error = hint(
            &io::Error::from_raw_os_error(libc::EPERM),
            need,
            "do it",
            ours,
            here,
        );
        assert_eq!(error.failure, Failure::NotPermitted);
        assert!(
            error.message.starts_with("cannot do it: Operation not permitted"),
            "{}",
            error.message
        );
        error.message
    }

    #[test]
    fn a_plain_user_is_told_which_capabilities_to_give() {
        let user = Privileges {
            euid: Some(1000),
            effective: Some(0),
            ..root()
        };
        let message = advice_for(Need::LoadPrograms, &user, &Obstacles::default());
        assert!(
            message.contains("user 1000, lacks CAP_BPF and CAP_PERFMON"),
            "{message}"
        );
        assert!(message.contains("setcap"), "{message}");
    }

    #[test]
    fn sys_admin_stands_for_bpf_and_perfmon_but_not_for_ptrace() {
        let admin = Privileges {
            effective: Some(1 << 21),
            ..root()
        };
        assert!(admin.missing_for(Need::LoadPrograms).is_empty());
        assert_eq!(admin.missing_for(Need::ReadProcess), [Capability::SysPtrace]);
    }

    #[test]
    fn root_is_told_what_stands_in_its_way() {
        let ptrace = Obstacles {
            ptrace_scope: Some("3".into()),
            ..Obstacles::default()
        };
        assert!(advice_for(Need::ReadProcess, &root(), &ptrace).contains("ptrace_scope is 3"));
        let locked = Obstacles {
            lockdown: Some("confidentiality".into()),
            ..Obstacles::default()
        };
        assert!(advice_for(Need::LoadPrograms, &root(), &locked).contains("locked down"));
        let unprivileged = Privileges {
            euid: Some(1000),
            effective: Some(1 << 38 | 1 << 39),
            ..root()
        };
        let old = Obstacles {
            locked_memory: Some(64),
            ..Obstacles::default()
        };
        assert!(advice_for(Need::LoadPrograms, &unprivileged, &old).contains("64 KiB"));
        let rootless = Privileges {
            initial_user_namespace: Some(false),
            ..root()
        };
        assert!(advice_for(Need::LoadPrograms, &rootless, &Obstacles::default()).contains("rootless"));
        let contained = Privileges {
            seccomp_filter: Some(true),
            ..root()
        };
        assert!(advice_for(Need::OpenProbe, &contained, &Obstacles::default()).contains("seccomp"));
        assert!(advice_for(Need::OpenProbe, &root(), &Obstacles::default()).contains("SELinux"));
        let paranoid = Obstacles {
            perf_event_paranoid: Some("4".into()),
            ..Obstacles::default()
        };
        let capable = Privileges {
            effective: Some(1 << 38 | 1 << 39 | 1 << 19),
            ..root()
        };
        assert!(advice_for(Need::OpenProbe, &capable, &paranoid).contains("perf_event_paranoid=4"));
        assert!(advice_for(Need::OpenProbe, &capable, &Obstacles::default()).contains("CAP_SYS_ADMIN"));
    }

    #[test]
    fn other_causes_are_reported_as_they_are() {
        let cause = io::Error::from_raw_os_error(libc::ENOENT);
        let error = privilege_hint(&cause, Need::ReadProcess, "open /proc/1/exe");
        assert_eq!(error.failure, Failure::Failed);
        assert!(error.message.contains("open /proc/1/exe"));
    }

    #[test]
    fn our_own_privileges_are_readable() {
        let ours = Privileges::ours();
        assert_eq!(ours.euid, Some(nix::unistd::geteuid().as_raw()));
        assert!(ours.effective.is_some() && ours.initial_pid_namespace.is_some());
    }
}
