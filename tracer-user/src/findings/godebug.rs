//! Settings in `GODEBUG`, `name=value` with commas between.

/// Those of these settings that are on, as they are written.
pub(super) fn settings_on<'a>(godebug: &'a str, names: &[&str]) -> Vec<&'a str> {
    let settings = godebug.split(',').filter(|setting| {
        let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
        names.contains(&name) && value != "0"
    });
    settings.collect()
}
