//! The list of fields, shared with the generator: gmpscope's names and those of Go's versions.

/// Finds a field by its name in `fields.txt`.
pub(super) type Get<'a> = dyn Fn(&str) -> Option<u32> + 'a;

/// A field is missing that every supported version has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MissingField(pub &'static str);

/// How a member of a struct is made from a field.
pub(super) trait Field: Sized {
    /// Whether every layout must have it.
    #[cfg(test)]
    const REQUIRED: bool;
    fn take(name: &'static str, get: &Get<'_>) -> Result<Self, MissingField>;
}

impl Field for u32 {
    #[cfg(test)]
    const REQUIRED: bool = true;
    fn take(name: &'static str, get: &Get<'_>) -> Result<Self, MissingField> {
        get(name).ok_or(MissingField(name))
    }
}

impl Field for Option<u32> {
    #[cfg(test)]
    const REQUIRED: bool = false;
    fn take(name: &'static str, get: &Get<'_>) -> Result<Self, MissingField> {
        Ok(get(name))
    }
}

/// One line of `fields.txt`.
pub(super) struct Line {
    /// The name in gmpscope, such as `sched.runqsize`.
    pub name: &'static str,
    /// The runtime's paths for it, newest first, such as `schedt.runq.size`.
    pub paths: Vec<&'static str>,
    /// Whether it is marked as one that every version has.
    #[cfg(test)]
    pub required: bool,
}

/// The lines of the list, which the generator reads, too.
pub(super) fn lines() -> impl Iterator<Item = Line> {
    include_str!("fields.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let first = words.next()?;
            Some(Line {
                name: first.trim_start_matches('!'),
                paths: words.collect(),
                #[cfg(test)]
                required: first.starts_with('!'),
            })
        })
}

#[cfg(test)]
mod tests {
    use super::super::Layout;
    use super::*;

    #[test]
    fn the_list_and_the_structs_name_the_same_fields() {
        let mut listed: Vec<_> = lines().map(|l| (l.name, l.required)).collect();
        let mut declared = Layout::names();
        listed.sort();
        declared.sort();
        assert_eq!(listed, declared);
        assert!(lines().all(|l| !l.paths.is_empty()));
    }
}
