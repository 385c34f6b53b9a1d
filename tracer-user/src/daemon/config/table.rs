//! The one table of all settings. Flags, variables of the environment, keys of files, `--help`, `config show`, the
//! commented configuration file and the documentation follow from it.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;

use super::{
    Config, Tier, duration,
    pattern::Subject,
    share,
    toml::toml_value,
    value::{self, Problem, Written},
};

/// One setting.
///
/// Values are shown wherever it is useful: in `config show`, in messages, in logs. So no [`Type`] can hold a secret; a
/// setting that is one would need a type that is not shown.
#[derive(Debug)]
pub struct Setting {
    /// Its dotted name, `http.listen`.
    pub name: &'static str,
    /// What it means, in one sentence without a full stop.
    pub help: &'static str,
    /// When a new value takes effect.
    pub effect: TakesEffect,
    /// Which values it can have, and where it is in [`Config`].
    pub is: Type,
}

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakesEffect {
    /// When the configuration is reloaded.
    Reload,
    /// When the daemon is restarted.
    Restart,
}

/// The type of a setting's value.
#[derive(Debug)]
pub enum Type {
    /// IP address and port.
    Address(Field<SocketAddr>),
    /// A whole number, with the smallest and the largest.
    Count(Field<u32>, u32, u32),
    /// A duration, with the shortest and the longest.
    Time(Field<Duration>, Duration, Duration),
    /// A share of CPU time, 0 to 1.
    Share(Field<f64>),
    /// One of these tiers.
    Tier(Field<Tier>, &'static [Tier]),
    /// Patterns of paths.
    Paths(Field<Vec<String>>),
    /// Patterns of names of machines.
    Hosts(Field<Vec<String>>),
    /// `true` or `false`.
    Switch(Field<bool>),
}

/// Where a value is in [`Config`].
#[derive(Clone, Copy, Debug)]
pub struct Field<T> {
    get: fn(&Config) -> &T,
    get_mut: fn(&mut Config) -> &mut T,
}

macro_rules! settings {
    ($($group:ident . $key:ident: $type:ident $(($($limit:expr),+))?, $effect:ident, $help:literal;)+) => {
        &[$(Setting {
            name: concat!(stringify!($group), ".", stringify!($key)),
            help: $help,
            effect: TakesEffect::$effect,
            is: Type::$type(
                Field { get: |config| &config.$group.$key, get_mut: |config| &mut config.$group.$key }
                $($(, $limit)+)?
            ),
        }),+]
    };
}

const INTERVAL: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Tiers that need no window.
const LASTING: &[Tier] = &[Tier::Off, Tier::Passive, Tier::Sampled];

/// All settings but the rules, [`super::rules::KEYS`], in the order in which they are shown.
pub static SETTINGS: &[Setting] = settings! {
    http.listen: Address, Restart,
        "Address and port of the metrics; a socket that systemd hands over comes first";
    http.max_connections: Count(1, 10_000), Restart,
        "Connections at one time; one more takes the place of the one that has waited the longest";
    http.timeout: Time(INTERVAL, HOUR), Restart,
        "The longest that a request may take, from accept to the end of the answer";
    http.hosts: Hosts, Restart,
        "Names under which the metrics may be asked for, with `*` and `?`, beside IP addresses, localhost and the \
         machine's own host name";
    discovery.interval: Time(INTERVAL, DAY), Reload,
        "How often /proc is scanned, for what the kernel's events did not show";
    discovery.settle: Time(Duration::ZERO, HOUR), Reload,
        "How old a process must be before its binary is looked into";
    discovery.max_targets: Count(1, 100_000), Reload,
        "Processes that are watched at one time; more are counted, not watched";
    tier.highest: Tier(LASTING), Reload,
        "The highest tier of processes of which no rule says another";
    tier.passive_interval: Time(INTERVAL, HOUR), Reload,
        "How often the memory of a process's Go runtime is read";
    tier.probe_interval: Time(INTERVAL, MINUTE), Reload,
        "How often the kernel's tables of probed processes are read";
    budget.target: Share, Reload,
        "What watching may cost a process, as a share of its own CPU time";
    budget.target_floor: Time(Duration::ZERO, SECOND), Reload,
        "CPU time per second that a process may always be charged, however idle it is";
    budget.host: Share, Reload,
        "What watching may cost all processes together, as a share of all CPUs";
    metrics.creation_sites: Count(0, 1_000), Reload,
        "Creation sites of a process that have series of their own; the others are `other`";
    init.include: Paths, Reload,
        "Binaries whose starts are timed, as paths with `*` and `?`";
    init.whole_binary: Switch, Reload,
        "Hold no start, and probe these binaries in every process that maps them: needs no CAP_SYS_ADMIN, but whatever \
         reads such a file by a private mapping (git, linkers) sees breakpoints (bytes 0xCC) in it";
};

/// The setting of this name.
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

impl Setting {
    /// Its table in a file, `http`.
    pub fn group(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(group, _)| group)
    }

    /// Its key in that table, `listen`.
    pub fn key(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, key)| key)
    }

    /// Its option, `http-listen`.
    pub fn option(&self) -> String {
        self.name.replace(['.', '_'], "-")
    }

    /// Its option as it is written on the command line, `--http-listen`.
    pub fn flag(&self) -> String {
        format!("--{}", self.option())
    }

    /// Its environment variable, `GMPSCOPE_HTTP_LISTEN`.
    pub fn variable(&self) -> String {
        format!("GMPSCOPE_{}", self.name.replace('.', "_").to_uppercase())
    }

    /// The placeholder for its value in a usage line.
    pub fn value_name(&self) -> &'static str {
        match self.is {
            Type::Address(_) => "IP:PORT",
            Type::Count(..) => "N",
            Type::Time(..) => "TIME",
            Type::Share(_) => "PERCENT",
            Type::Tier(..) => "TIER",
            Type::Paths(_) => "PATTERNS",
            Type::Hosts(_) => "NAMES",
            Type::Switch(_) => "BOOL",
        }
    }

    /// Which values are allowed, in words.
    pub fn allowed(&self) -> String {
        match &self.is {
            Type::Address(_) => "IP:PORT".to_owned(),
            Type::Count(_, least, most) => format!("{least} to {most}"),
            Type::Time(_, shortest, longest) => {
                format!("{} to {}", duration::exact(*shortest), duration::exact(*longest))
            }
            Type::Share(_) => "0% to 100%".to_owned(),
            Type::Tier(_, tiers) => tiers
                .iter()
                .map(|tier| tier.name())
                .collect::<Vec<_>>()
                .join(", "),
            Type::Paths(_) | Type::Hosts(_) => "patterns, separated by commas".to_owned(),
            Type::Switch(_) => "true or false".to_owned(),
        }
    }

    /// Its value.
    pub fn value(&self, config: &Config) -> Value {
        match &self.is {
            Type::Address(field) => (field.get)(config).to_string().into(),
            Type::Count(field, ..) => (*(field.get)(config)).into(),
            Type::Time(field, ..) => duration::exact(*(field.get)(config)).into(),
            Type::Share(field) => share::exact(*(field.get)(config)).into(),
            Type::Tier(field, _) => (field.get)(config).name().into(),
            Type::Paths(field) | Type::Hosts(field) => (field.get)(config).clone().into(),
            Type::Switch(field) => (*(field.get)(config)).into(),
        }
    }

    /// Its value as it is written in a file.
    pub fn toml(&self, config: &Config) -> String {
        toml_value(&self.value(config))
    }

    /// Its value as it is written on the command line.
    pub fn bare(&self, config: &Config) -> String {
        match self.value(config) {
            Value::String(text) => text,
            Value::Array(items) => items
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(","),
            other => other.to_string(),
        }
    }

    /// Sets its value in `config`.
    ///
    /// # Errors
    /// Everything that is wrong with the value; `config` is unchanged then.
    pub fn set(&self, config: &mut Config, written: Written<'_>) -> Result<(), Vec<Problem>> {
        let one = |message| vec![Problem { message, at: None }];
        match &self.is {
            Type::Address(field) => *(field.get_mut)(config) = value::address(written).map_err(one)?,
            Type::Count(field, least, most) => {
                *(field.get_mut)(config) = value::count(written, *least..=*most).map_err(one)?;
            }
            Type::Time(field, shortest, longest) => {
                *(field.get_mut)(config) = value::time(written, *shortest..=*longest).map_err(one)?;
            }
            Type::Share(field) => *(field.get_mut)(config) = value::share(written).map_err(one)?,
            Type::Tier(field, tiers) => {
                *(field.get_mut)(config) = value::tier(written, tiers).map_err(one)?
            }
            Type::Paths(field) => *(field.get_mut)(config) = value::patterns(written, Subject::Path)?,
            Type::Hosts(field) => *(field.get_mut)(config) = value::patterns(written, Subject::Host)?,
            Type::Switch(field) => *(field.get_mut)(config) = value::switch(written).map_err(one)?,
        }
        Ok(())
    }
}

/// The names of the settings whose values differ, and `target` where rules do.
pub fn differing(one: &Config, other: &Config) -> Vec<&'static str> {
    let settings = SETTINGS
        .iter()
        .filter(|setting| setting.value(one) != setting.value(other))
        .map(|setting| setting.name);
    let rules = (one.target != other.target).then_some("target");
    settings.chain(rules).collect()
}
