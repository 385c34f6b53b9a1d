//! Enums of other rooms, as the document writes and orders them.

use std::{cmp::Ordering, fmt, ops::Deref};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::model::sched::{Cause, State};
use crate::model::start::{Ended, TimesFrom};
use crate::stream::{LossCause, Origin};

/// An enum whose variants have names in JSON and text.
pub trait HasName: Copy + Sized + 'static {
    /// What a variant is, for the error about a name that no variant has.
    const WHAT: &'static str;
    /// Every variant.
    const ALL: &'static [Self];

    /// Returns the name of this variant.
    fn name(self) -> &'static str;
}

/// A variant that is written by its name. It sorts by its name, too: that is the order of the keys in the JSON, whatever
/// the order in which the variants are declared.
#[derive(Clone, Copy, Debug)]
pub struct ByName<T>(pub T);

impl<T> Deref for ByName<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: HasName> fmt::Display for ByName<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.name())
    }
}

impl<T: HasName> PartialEq for ByName<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl<T: HasName> Eq for ByName<T> {}

impl<T: HasName> PartialEq<T> for ByName<T> {
    fn eq(&self, other: &T) -> bool {
        self.0.name() == other.name()
    }
}

impl<T: HasName> Ord for ByName<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.name().cmp(other.0.name())
    }
}

impl<T: HasName> PartialOrd for ByName<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: HasName> Serialize for ByName<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl<'de, T: HasName> Deserialize<'de> for ByName<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = T::ALL.iter().find(|variant| variant.name() == name);
        known
            .map(|variant| Self(*variant))
            .ok_or_else(|| de::Error::custom(format_args!("`{name}` is not {}", T::WHAT)))
    }
}

impl HasName for Origin {
    const WHAT: &'static str = "a way to become runnable";
    const ALL: &'static [Self] = &Origin::ALL;

    fn name(self) -> &'static str {
        Origin::name(self)
    }
}

impl HasName for LossCause {
    const WHAT: &'static str = "a cause of a loss";
    const ALL: &'static [Self] = &LossCause::ALL;

    fn name(self) -> &'static str {
        LossCause::name(self)
    }
}

impl HasName for Cause {
    const WHAT: &'static str = "a cause of waiting to run";
    const ALL: &'static [Self] = &Cause::ALL;

    fn name(self) -> &'static str {
        Cause::name(self)
    }
}

impl HasName for State {
    const WHAT: &'static str = "a state of a goroutine";
    const ALL: &'static [Self] = &State::ALL;

    fn name(self) -> &'static str {
        State::name(self)
    }
}

impl HasName for TimesFrom {
    const WHAT: &'static str = "a moment from which a start is measured";
    const ALL: &'static [Self] = &TimesFrom::ALL;

    fn name(self) -> &'static str {
        TimesFrom::name(self)
    }
}

impl HasName for Ended {
    const WHAT: &'static str = "an end of a start";
    const ALL: &'static [Self] = &Ended::ALL;

    fn name(self) -> &'static str {
        Ended::name(self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Every variant survives JSON, as a value and as a key, and none has the name of another.
    fn survive<T: HasName + fmt::Debug>() {
        let all: BTreeMap<ByName<T>, usize> = T::ALL.iter().copied().map(ByName).zip(0..).collect();
        assert_eq!(all.len(), T::ALL.len());
        let json = serde_json::to_string(&all).unwrap();
        let mut names: Vec<&str> = T::ALL.iter().map(|variant| variant.name()).collect();
        names.sort_unstable();
        let in_json: Vec<String> = serde_json::from_str::<BTreeMap<String, usize>>(&json)
            .unwrap()
            .into_keys()
            .collect();
        assert_eq!(names, in_json);
        assert_eq!(
            serde_json::from_str::<BTreeMap<ByName<T>, usize>>(&json).unwrap(),
            all
        );
        let error = serde_json::from_str::<ByName<T>>("\"of a later version\"").unwrap_err();
        assert!(error.to_string().contains(T::WHAT), "{error}");
    }

    #[test]
    fn every_variant_survives_json() {
        survive::<Origin>();
        survive::<LossCause>();
        survive::<Cause>();
        survive::<State>();
        survive::<TimesFrom>();
        survive::<Ended>();
    }
}
