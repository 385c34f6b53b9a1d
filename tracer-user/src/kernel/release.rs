//! The kernel's release. Features are found out by trying; the release only explains.

/// Kernel release, as in `uname -r`.
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// (6, 18) of `6.18.44-x`.
pub fn major_minor(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether BPF maps count against RLIMIT_MEMLOCK: before Linux 5.11, which charges cgroups instead.
pub fn counts_locked_memory(release: &str) -> bool {
    major_minor(release).is_some_and(|version| version < (5, 11))
}

/// Whether a BPF program with functions may make a tail call on this architecture: on arm64 since Linux 6.0
/// (`bpf_jit_supports_subprog_tailcalls`, arch/arm64/net/bpf_jit_comp.c). By version, since it must be known before
/// the programs are loaded.
pub fn has_tail_calls_beside_functions(release: &str, arch: &str) -> bool {
    arch != "aarch64" || major_minor(release).is_none_or(|version| version >= (6, 0))
}

/// Whether a uprobe_multi link stays in force when the thread that it is bound to ends, and the process does not. Since
/// Linux 6.12 it recognizes the process by its thread group, before by the thread's memory, which is gone then
/// (`uprobe_prog_run`, kernel/trace/bpf_trace.c). Distributions have it earlier; that is not known here.
pub fn links_outlive_their_thread(release: &str) -> bool {
    major_minor(release).is_some_and(|version| version >= (6, 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_as_distributions_write_them() {
        for (release, version) in [
            ("6.18.44-fc-v595", Some((6, 18))),
            ("5.10.0-46-cloud-amd64", Some((5, 10))),
            ("6.12.117+deb13-amd64", Some((6, 12))),
            ("7.3-rc1", Some((7, 3))),
            ("5.15.167.4-microsoft-standard-WSL2", Some((5, 15))),
            ("", None),
            ("banana", None),
            ("99999999999.1", None),
        ] {
            assert_eq!(major_minor(release), version, "{release}");
        }
        assert!(counts_locked_memory("5.10.0-46-cloud-amd64") && !counts_locked_memory("5.11.1"));
        let outlive = links_outlive_their_thread;
        assert!(outlive("6.12.117+deb13-amd64") && !outlive("6.11.3") && !outlive("banana"));
        let tail_calls = has_tail_calls_beside_functions;
        assert!(!tail_calls("5.10.0-32-cloud-arm64", "aarch64") && tail_calls("6.0.1", "aarch64"));
        assert!(tail_calls("5.10.0-46-cloud-amd64", "x86_64") && tail_calls("banana", "aarch64"));
    }
}
