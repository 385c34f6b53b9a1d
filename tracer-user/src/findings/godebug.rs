//! Settings in `GODEBUG`, `name=value` with commas between.

/// Those of these settings that are on, as they are written: with a positive number. The last of each counts; what is not a
/// number does not, as in the runtime's `parsegodebug`.
pub(super) fn settings_on<'a>(godebug: &'a str, names: &[&str]) -> Vec<&'a str> {
    let mut last: Vec<(&str, &str, i32)> = Vec::new();
    for setting in godebug.split(',') {
        let Some((name, value)) = setting.split_once('=') else {
            continue;
        };
        let Some(value) = value.parse::<i32>().ok().filter(|_| names.contains(&name)) else {
            continue;
        };
        last.retain(|(before, _, _)| *before != name);
        last.push((name, setting, value));
    }
    let on = last.into_iter().filter(|(_, _, value)| *value > 0);
    on.map(|(_, setting, _)| setting).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_setting_counts_if_it_is_a_number() {
        let on = |godebug| settings_on(godebug, &["schedtrace", "gctrace"]);
        assert_eq!(
            on("gctrace=1,x=1,schedtrace=1000"),
            ["gctrace=1", "schedtrace=1000"]
        );
        assert_eq!(on("gctrace=1,gctrace=0"), [""; 0]);
        assert_eq!(on("gctrace=0,gctrace=2"), ["gctrace=2"]);
        assert_eq!(on("gctrace=2,gctrace=x,gctrace"), ["gctrace=2"]);
        for off in [
            "",
            "gctrace",
            "gctrace=",
            "gctrace=off",
            "gctrace=-1",
            "gctrace=0",
        ] {
            assert_eq!(on(off), [""; 0], "{off}");
        }
    }
}
