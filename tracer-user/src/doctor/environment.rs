//! Checks of what the kernel reports about itself and our privileges.

use std::path::Path;

use super::check::{Check, PROBING};
use crate::{
    kernel::{
        privilege::{self, Capability, Privileges, kernel_setting},
        release::{counts_locked_memory, major_minor},
    },
    plan::Mode,
};

/// Checks the kernel's release.
pub fn kernel(release: &str) -> Check {
    let detail = format!("Linux {release} on {}", std::env::consts::ARCH);
    match major_minor(release) {
        // Ring buffers came with 5.8; nothing older than 5.10 was tested.
        Some(version) if version < (5, 8) => Check::missing("kernel", detail, PROBING)
            .advise("Linux 5.10 or newer is needed for probes; passive works on any"),
        Some(version) if version < (5, 10) => {
            Check::degraded("kernel", detail, "never tried on a kernel older than 5.10")
        }
        Some(_) => Check::ok("kernel", detail),
        None => Check::degraded(
            "kernel",
            detail,
            "its version is not understood; the other checks still hold",
        ),
    }
}

/// Checks our capabilities and namespaces.
pub fn privileges(ours: &Privileges) -> Vec<Check> {
    let setcap =
        "run as root, or: sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace+ep \"$(command -v gmpscope)\"";
    let mut checks = vec![];
    for (name, capability, prevents) in [
        ("CAP_BPF", Capability::Bpf, PROBING),
        ("CAP_PERFMON", Capability::Perfmon, PROBING),
    ] {
        checks.push(if ours.has(capability) {
            Check::ok(name, held(ours))
        } else {
            Check::missing(name, "not held", prevents).advise(setcap)
        });
    }
    checks.push(if ours.has(Capability::SysPtrace) {
        Check::ok("CAP_SYS_PTRACE", held(ours))
    } else {
        let consequence = "only processes of our own user can be read, and so traced";
        Check::degraded("CAP_SYS_PTRACE", "not held", consequence).advise(setcap)
    });
    checks.push(if ours.has(Capability::DacReadSearch) {
        Check::ok("CAP_DAC_READ_SEARCH", held(ours))
    } else {
        let consequence = "programs that only their owner may read cannot be traced";
        Check::degraded("CAP_DAC_READ_SEARCH", "not held", consequence)
            .advise("if there are such, run as root or give it, too: with it every file can be read")
    });
    checks.push(match (ours.initial_user_namespace, ours.initial_pid_namespace) {
        (Some(false), _) => Check::missing("namespaces", "in a user namespace of its own", PROBING)
            .advise("run on the host, or in a container with --privileged"),
        (_, Some(false)) => Check::degraded(
            "namespaces",
            "in a PID namespace of its own",
            "only its processes can be named, by their numbers in it",
        )
        .advise("to trace the host's, run the container with --pid=host"),
        (Some(true), Some(true)) => Check::ok("namespaces", "the host's"),
        _ => Check::degraded("namespaces", "/proc/self/ns cannot be read", "unknown"),
    });
    checks.push(match ours.seccomp_filter {
        Some(true) => Check::degraded(
            "seccomp",
            "a filter is on us",
            "it may forbid bpf, perf_event_open or process_vm_readv; the checks below show it",
        )
        .advise(
            "if they fail: run the container with --security-opt seccomp=unconfined; in a systemd unit, SystemCallFilter= \
             has to allow them",
        ),
        _ => Check::ok("seccomp", "no filter"),
    });
    checks
}

fn held(ours: &Privileges) -> String {
    match ours.euid {
        Some(0) => "held (root)".into(),
        Some(uid) => format!("held (user {uid})"),
        None => "unknown".into(),
    }
}

/// Checks settings that the administrator can change.
pub fn settings(ours: &Privileges, release: &str) -> Vec<Check> {
    let setting = |name: &str| kernel_setting(&format!("/proc/sys/{name}"));
    vec![
        lockdown(privilege::lockdown().as_deref()),
        paranoid(setting("kernel/perf_event_paranoid").as_deref(), ours),
        unprivileged_bpf(setting("kernel/unprivileged_bpf_disabled").as_deref()),
        ptrace_scope(setting("kernel/yama/ptrace_scope").as_deref(), ours),
        jit(setting("net/core/bpf_jit_enable").as_deref()),
        memlock(release, ours),
        btf(),
    ]
}

fn lockdown(mode: Option<&str>) -> Check {
    match mode {
        None => Check::ok("lockdown", "not in this kernel, or securityfs is not mounted"),
        Some("confidentiality") => Check::degraded(
            "lockdown",
            "confidentiality",
            "programs that read kernel memory are refused; ours read only the target's, and may pass",
        ),
        Some(mode) => Check::ok("lockdown", mode),
    }
}

fn paranoid(level: Option<&str>, ours: &Privileges) -> Check {
    let name = "perf_event_paranoid";
    match level.map(str::parse::<i32>) {
        // Above 2 is a patch of Debian and Ubuntu (3) and of Android and others.
        Some(Ok(level)) if level > 2 && !ours.has(Capability::SysAdmin) => Check::degraded(
            name,
            level.to_string(),
            "perf events ask for CAP_SYS_ADMIN, so that probes need uprobe_multi (see below)",
        )
        .advise("sudo sysctl kernel.perf_event_paranoid=2, or run as root"),
        Some(Ok(level)) => Check::ok(name, level.to_string()),
        Some(Err(_)) | None => Check::missing(name, "this kernel has no perf events", PROBING),
    }
}

fn unprivileged_bpf(level: Option<&str>) -> Check {
    // In any case gmpscope's programs need CAP_BPF and CAP_PERFMON.
    let detail = match level {
        Some(level) => format!("{level}; makes no difference to those with CAP_BPF"),
        None => "no such setting".into(),
    };
    Check::ok("unprivileged_bpf_disabled", detail)
}

fn ptrace_scope(scope: Option<&str>, ours: &Privileges) -> Check {
    let name = "yama ptrace_scope";
    match scope {
        None => Check::ok(name, "no yama in this kernel"),
        Some("0") => Check::ok(name, "0"),
        Some("3") => Check::missing(name, "3: nobody may read another process", &[Mode::Passive]).advise(
            "remove it from /etc/sysctl.d and boot again; it cannot be lowered while the kernel runs",
        ),
        Some(scope) if ours.has(Capability::SysPtrace) => {
            Check::ok(name, format!("{scope}; we have CAP_SYS_PTRACE"))
        }
        Some(scope) => Check::missing(name, scope, &[Mode::Passive])
            .advise("run as root or with CAP_SYS_PTRACE, or: sudo sysctl kernel.yama.ptrace_scope=0"),
    }
}

fn jit(enabled: Option<&str>) -> Check {
    match enabled {
        Some("0") => Check::degraded(
            "BPF JIT",
            "off",
            "programs are interpreted: each probe hit costs the target more",
        )
        .advise("sudo sysctl net.core.bpf_jit_enable=1"),
        Some(_) => Check::ok("BPF JIT", "on"),
        None => Check::ok("BPF JIT", "the kernel does not say"),
    }
}

/// Checks RLIMIT_MEMLOCK, against which BPF maps count before Linux 5.11.
fn memlock(release: &str, ours: &Privileges) -> Check {
    let name = "RLIMIT_MEMLOCK";
    if !counts_locked_memory(release) {
        return Check::ok(name, "does not count for BPF on this kernel");
    }
    if ours.has(Capability::SysResource) {
        return Check::ok(name, "is raised when needed");
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current;
    match limit {
        None => Check::ok(name, "unlimited"),
        Some(bytes) if bytes >= 64 << 20 => Check::ok(name, format!("{} MiB", bytes >> 20)),
        Some(bytes) => Check::degraded(
            name,
            format!("{} KiB", bytes >> 10),
            "the kernel may refuse the maps of sampled and exact",
        )
        .advise("ulimit -l unlimited, or give CAP_SYS_RESOURCE"),
    }
}

fn btf() -> Check {
    let path = "/sys/kernel/btf/vmlinux";
    if Path::new(path).exists() {
        Check::ok("BTF", path)
    } else {
        Check::degraded("BTF", format!("no {path}"), "no mode of this version needs it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Status;

    fn user() -> Privileges {
        Privileges {
            euid: Some(1000),
            effective: Some(0),
            initial_pid_namespace: Some(true),
            initial_user_namespace: Some(true),
            seccomp_filter: Some(false),
        }
    }

    fn root() -> Privileges {
        Privileges {
            euid: Some(0),
            effective: Some(u64::MAX),
            ..user()
        }
    }

    #[test]
    fn old_kernels_are_told_so() {
        assert_eq!(kernel("5.4.0-1-amd64").status, Status::Missing);
        assert_eq!(kernel("5.9.1").status, Status::Degraded);
        assert_eq!(kernel("5.10.262").status, Status::Ok);
    }

    #[test]
    fn a_plain_user_can_have_no_probes_and_is_told_how() {
        let checks = privileges(&user());
        for name in ["CAP_BPF", "CAP_PERFMON"] {
            let check = checks.iter().find(|check| check.name == name).unwrap();
            assert_eq!(
                (check.status, check.prevents.as_slice()),
                (Status::Missing, PROBING)
            );
            assert!(check.what_to_do.is_some());
        }
        assert!(privileges(&root()).iter().all(|check| check.status == Status::Ok));
    }

    #[test]
    fn settings_count_by_who_we_are() {
        assert_eq!(ptrace_scope(Some("1"), &user()).prevents, [Mode::Passive]);
        assert_eq!(ptrace_scope(Some("1"), &root()).status, Status::Ok);
        assert_eq!(ptrace_scope(Some("3"), &root()).prevents, [Mode::Passive]);
        assert_eq!(paranoid(Some("3"), &root()).status, Status::Ok);
        assert_eq!(paranoid(Some("3"), &user()).status, Status::Degraded);
        assert_eq!(paranoid(Some("2"), &user()).status, Status::Ok);
        assert_eq!(paranoid(None, &root()).prevents, PROBING);
        assert_eq!(lockdown(Some("confidentiality")).status, Status::Degraded);
        assert_eq!(lockdown(Some("integrity")).status, Status::Ok);
        assert_eq!(memlock("6.1.0", &user()).status, Status::Ok);
        assert_eq!(jit(Some("0")).status, Status::Degraded);
    }
}
