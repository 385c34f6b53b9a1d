//! The events that a workload prints.

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::histogram::RuntimeHistogram;

/// One line of a workload's output (tests/workloads/internal/control/reading.go).
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    /// `parked`, `running` or `count`.
    pub event: String,
    /// The program's name.
    pub workload: String,
    /// Its process id.
    pub pid: u32,
    /// `go1.27.3`, with ` X:…` where experiments are on.
    pub go: String,
    /// The time, on CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// CPU time of the process so far.
    pub cpu_ns: u64,
    /// Iterations so far.
    pub iterations: u64,
    /// `GOMAXPROCS`.
    pub gomaxprocs: u32,
    /// Live goroutines, without those of the system: `runtime.NumGoroutine`.
    pub goroutines: u64,
    /// `/sched/goroutines:goroutines`, from Go 1.26 on with those of the system. Only of workloads that are about it.
    #[serde(default)]
    pub sched_goroutines: Option<u64>,
    /// `/sched/latencies:seconds`.
    pub latencies: RuntimeHistogram,
    /// `/sched/pauses/total/other:seconds` (Go ≥ 1.22). Only of workloads that stop the world.
    #[serde(default)]
    pub stops: Option<RuntimeHistogram>,
    /// Bounds of all buckets of that histogram, ascending; -1 for an infinite one. In the first event.
    #[serde(default)]
    pub bounds_ns: Option<Vec<i64>>,
    /// Fields that only this workload prints.
    #[serde(default)]
    pub extra: serde_json::Value,
}

impl Event {
    /// A number that only this workload prints.
    ///
    /// # Errors
    /// It does not print it.
    pub fn number(&self, name: &str) -> Result<u64> {
        let number = self.extra.get(name).and_then(serde_json::Value::as_u64);
        number.with_context(|| format!("{} does not report {name}: {}", self.workload, self.extra))
    }
}
