//! More Ps than the cgroup may run: the kernel stops all of them when the quota is used up. The same rule holds for
//! captures and for starts.

use super::Verdict;

pub(super) fn check(gomaxprocs: Option<u32>, limit: Option<f64>) -> Option<Verdict> {
    let (gomaxprocs, limit) = (gomaxprocs?, limit?);
    let fits = limit.ceil().max(1.0);
    (f64::from(gomaxprocs) > fits).then(|| {
        Verdict::warning(
            "GOMAXPROCS is larger than the cgroup's CPU limit".to_owned(),
            format!("GOMAXPROCS is {gomaxprocs}, the cgroup may use {limit:.2} CPUs"),
            format!(
                "The kernel throttles all threads at once when the quota is used up. Set GOMAXPROCS={fits:.0}, or \
                 build with Go 1.25 or newer, which follows the limit by itself."
            ),
        )
    })
}
