//! Decides what is wrong, given what was found.

/// The findings after a round.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The state of each target.
    pub targets: Vec<TargetState>,
    /// BPF programs at probes that did not exist before the storm.
    pub programs: usize,
    /// Complaints of the kernel since the last round.
    pub kernel: Vec<String>,
}

/// The state of a target.
#[derive(Clone, Debug, Default)]
pub struct TargetState {
    /// The name for messages.
    pub name: String,
    /// How it has ended, if it has; then the other fields mean nothing.
    pub ended: Option<String>,
    /// Results that it had checked after the round before.
    pub before: u64,
    /// Results that it has checked now.
    pub after: u64,
    /// Bytes of its executable memory that differ from its file.
    pub patched: usize,
    /// The contents of /proc/PID/status.
    pub status: String,
}

/// Describes everything that is wrong.
pub fn wrong(found: &Found) -> Vec<String> {
    let mut wrong: Vec<String> = found.targets.iter().flat_map(wrong_with).collect();
    if found.programs > 0 {
        wrong.push(format!("{} BPF programs are left in the kernel", found.programs));
    }
    wrong.extend(found.kernel.iter().map(|line| format!("the kernel says: {line}")));
    wrong
}

/// Whether something is wrong that may be right a moment later: the kernel takes its time to remove things.
pub fn may_change(found: &Found) -> bool {
    let has_ended = found.targets.iter().any(|target| target.ended.is_some());
    !has_ended && found.kernel.is_empty() && !wrong(found).is_empty()
}

fn wrong_with(target: &TargetState) -> Vec<String> {
    if let Some(why) = &target.ended {
        return vec![format!("the target {} has ended: {why}", target.name)];
    }
    let mut wrong = Vec::new();
    if target.after <= target.before {
        wrong.push(format!("it has computed nothing since {} results", target.before));
    }
    if target.patched > 0 {
        wrong.push(format!(
            "{} bytes of its text are not those of its file",
            target.patched
        ));
    }
    wrong.extend(wrong_status(&target.status));
    wrong
        .into_iter()
        .map(|what| format!("the target {}: {what}", target.name))
        .collect()
}

/// Describes a state in /proc/PID/status that a process must not have if nobody traces it.
fn wrong_status(status: &str) -> Option<String> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next())
    };
    match (field("State:"), field("TracerPid:")) {
        (Some("R" | "S" | "D"), Some("0")) => None,
        (Some(state), Some("0")) => Some(format!("it is in the state {state}")),
        (_, Some(tracer)) => Some(format!("process {tracer} is its ptracer")),
        _ => Some("its /proc/PID/status cannot be read".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right() -> Found {
        let target = TargetState {
            name: "stripped".into(),
            ended: None,
            before: 10,
            after: 11,
            patched: 0,
            status: "Name:\tstorm\nState:\tS (sleeping)\nTracerPid:\t0\n".into(),
        };
        Found {
            targets: vec![target.clone(), target],
            ..Found::default()
        }
    }

    #[test]
    fn nothing_is_wrong_with_what_is_right() {
        assert_eq!(wrong(&right()), Vec::<String>::new());
        assert!(!may_change(&right()));
    }

    #[test]
    fn each_thing_alone_is_wrong() {
        type Change = fn(&mut Found);
        let changes: [(&str, Change); 8] = [
            ("has ended", |it| {
                it.targets[1].ended = Some("exit status: 1".into())
            }),
            ("computed nothing", |it| it.targets[0].after = 10),
            ("bytes of its text", |it| it.targets[1].patched = 1),
            ("state T", |it| {
                it.targets[0].status = "State:\tT (stopped)\nTracerPid:\t0\n".into();
            }),
            ("ptracer", |it| {
                it.targets[0].status = "State:\tt (tracing stop)\nTracerPid:\t7\n".into();
            }),
            ("cannot be read", |it| it.targets[0].status.clear()),
            ("BPF programs", |it| it.programs = 1),
            ("BUG:", |it| it.kernel.push("BUG: something".into())),
        ];
        for (word, change) in changes {
            let mut found = right();
            change(&mut found);
            let wrong = wrong(&found);
            assert_eq!(wrong.len(), 1, "{word}: {wrong:?}");
            assert!(wrong[0].contains(word), "{wrong:?}");
        }
    }
}
