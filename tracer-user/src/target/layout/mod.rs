//! Offsets of the runtime's struct fields, by Go version, experiments and architecture.

/// Byte offsets of the fields that gmpscope reads. `None`: this version has no such field.
///
/// Source: the `runtime` package of each Go version (`runtime2.go`, `histogram.go`, `proc.go`), by `cargo
/// xtask layouts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `runtime.g`.
    pub g: G,
    /// `runtime.m`.
    pub m: M,
    /// `runtime.p`.
    pub p: P,
    /// `runtime.schedt`.
    pub sched: Sched,
    /// `runtime.timeHistogram`.
    pub time_histogram: TimeHistogram,
}

/// `runtime.g`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct G {
    /// `m`.
    pub m: u32,
    /// `atomicstatus`.
    pub atomicstatus: u32,
    /// `goid`.
    pub goid: u32,
    /// `waitreason`.
    pub waitreason: u32,
    /// `preempt`.
    pub preempt: u32,
    /// `gopc`.
    pub gopc: u32,
    /// `startpc`.
    pub startpc: u32,
    /// `tracking`.
    pub tracking: u32,
    /// `trackingStamp`; Go 1.19: `runnableStamp`.
    pub tracking_stamp: u32,
    /// `runnableTime`.
    pub runnable_time: u32,
    /// sizeof.
    pub size: u32,
}

/// `runtime.m`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct M {
    /// `g0`.
    pub g0: u32,
    /// `procid`.
    pub procid: u32,
    /// `curg`.
    pub curg: u32,
    /// `p`.
    pub p: u32,
    /// `id`.
    pub id: u32,
    /// `spinning`.
    pub spinning: u32,
    /// `alllink`.
    pub alllink: u32,
}

/// `runtime.p`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct P {
    /// `id`.
    pub id: u32,
    /// `status`.
    pub status: u32,
    /// `schedtick`.
    pub schedtick: u32,
    /// `m`.
    pub m: u32,
    /// `runqhead`.
    pub runqhead: u32,
    /// `runqtail`.
    pub runqtail: u32,
    /// `runnext`.
    pub runnext: u32,
}

/// `runtime.schedt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sched {
    /// `lastpoll`.
    pub lastpoll: u32,
    /// `lock`.
    pub lock: u32,
    /// `nmidle`.
    pub nmidle: u32,
    /// `npidle`.
    pub npidle: u32,
    /// `nmspinning`.
    pub nmspinning: u32,
    /// `ngsys`.
    pub ngsys: u32,
    /// `runqsize`; from Go 1.25 `runq.size`.
    pub runqsize: u32,
    /// `gcwaiting`.
    pub gcwaiting: u32,
    /// `sysmonwait`.
    pub sysmonwait: u32,
    /// `timeToRun`.
    pub time_to_run: u32,
    /// `stwTotalTimeGC` (Go 1.22+).
    pub stw_total_time_gc: Option<u32>,
    /// `stwTotalTimeOther` (Go 1.22+).
    pub stw_total_time_other: Option<u32>,
    /// sizeof.
    pub size: u32,
}

/// `runtime.timeHistogram`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeHistogram {
    /// `counts`.
    pub counts: u32,
    /// Number of buckets in `counts`.
    pub buckets: u32,
    /// `underflow`.
    pub underflow: u32,
    /// `overflow` (Go 1.21+).
    pub overflow: Option<u32>,
    /// sizeof.
    pub size: u32,
}
