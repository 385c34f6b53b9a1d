//! One side of a comparison: a program, and what surrounds it.

use crate::surroundings::Quota;

/// A program of tests/workloads/rules, and what surrounds it.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    /// What it is, for the table.
    pub what: &'static str,
    /// Its arguments.
    pub arguments: &'static [&'static str],
    /// Its `GOMAXPROCS`.
    pub gomaxprocs: &'static str,
    /// Its `GODEBUG`.
    pub godebug: Option<&'static str>,
    /// CPU time that its control group may use.
    pub quota: Option<Quota>,
    /// Whether it has one CPU to itself, or shares it with this many processes that compute.
    pub one_cpu: Option<u32>,
    /// The limit of threads, once it runs.
    pub threads: Threads,
}

/// A limit of threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// There is none.
    Unlimited,
    /// Hardly more than there are.
    Near,
    /// Ten times as many as there are.
    Far,
}

impl Side {
    /// A program with two Ps that nothing surrounds.
    pub const fn of(what: &'static str, arguments: &'static [&'static str]) -> Self {
        Self {
            what,
            arguments,
            gomaxprocs: "2",
            godebug: None,
            quota: None,
            one_cpu: None,
            threads: Threads::Unlimited,
        }
    }
}
