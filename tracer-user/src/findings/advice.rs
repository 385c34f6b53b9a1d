//! What can be changed about the CPUs of a target, as findings advise it.

use super::figures::cpus;

/// What to do to give a target more CPU, as a clause: more Ps only help where they may run.
pub(super) fn more_cpu(gomaxprocs: Option<u32>, limit: Option<f64>) -> String {
    match (gomaxprocs, limit) {
        (Some(gomaxprocs), Some(limit)) if f64::from(gomaxprocs) >= limit => {
            format!(
                "raise the CPU limit of its cgroup, which is {} (more Ps than that would only be throttled)",
                cpus(limit)
            )
        }
        (Some(gomaxprocs), Some(limit)) => {
            format!(
                "raise GOMAXPROCS above {gomaxprocs}: its cgroup may use {}",
                cpus(limit)
            )
        }
        (Some(gomaxprocs), None) => {
            format!("raise GOMAXPROCS above {gomaxprocs}, if the machine has more CPUs")
        }
        (None, _) => "raise GOMAXPROCS, if there are CPUs for it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_ps_are_not_advised_where_they_would_be_throttled() {
        let limited = more_cpu(Some(4), Some(2.0));
        assert!(
            limited.contains("2.00 CPUs") && limited.starts_with("raise the CPU limit"),
            "{limited}"
        );
        assert!(more_cpu(Some(1), Some(2.0)).contains("GOMAXPROCS above 1"));
        assert!(more_cpu(Some(2), None).contains("if the machine has more"));
        assert!(more_cpu(None, None).contains("GOMAXPROCS"));
    }
}
