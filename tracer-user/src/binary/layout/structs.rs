//! The fields of the runtime's structs that gmpscope knows.

use super::fields::{Field, Get, MissingField};

/// Declares one struct of the runtime: its Rust type, and how it is filled by the fields' names in `fields.txt`, so
/// that no field can be declared but not filled, or be filled from another one's name.
macro_rules! runtime_struct {
    ($(#[$about:meta])* $name:ident = $prefix:literal { $($(#[$doc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$doc])* pub $field: $ty,)* }

        impl $name {
            pub(super) fn from_fields(get: &Get<'_>) -> Result<Self, MissingField> {
                Ok(Self { $($field: <$ty as Field>::take(concat!($prefix, ".", stringify!($field)), get)?,)* })
            }

            #[cfg(test)]
            pub(super) fn names() -> Vec<(&'static str, bool)> {
                vec![$((concat!($prefix, ".", stringify!($field)), <$ty as Field>::REQUIRED)),*]
            }
        }
    };
}

runtime_struct! {
    /// `runtime.g`, of `runtime2.go`.
    G = "g" {
        /// `stack.lo`.
        stack_lo: u32,
        /// `stack.hi`.
        stack_hi: u32,
        /// `m`.
        m: u32,
        /// `sched.sp`: the saved stack pointer of a goroutine that does not run.
        sched_sp: u32,
        /// `sched.pc`.
        sched_pc: u32,
        /// `sched.bp`: its frame pointer, likewise saved.
        sched_bp: u32,
        /// `syscallsp`.
        syscallsp: u32,
        /// `syscallpc`.
        syscallpc: u32,
        /// `atomicstatus`.
        atomicstatus: u32,
        /// `goid`.
        goid: u32,
        /// `schedlink`.
        schedlink: u32,
        /// `waitsince`.
        waitsince: u32,
        /// `waitreason`.
        waitreason: u32,
        /// `preempt`.
        preempt: u32,
        /// `parkingOnChan`.
        parking_on_chan: u32,
        /// `tracking`.
        tracking: u32,
        /// `trackingStamp`; Go 1.19: `runnableStamp`.
        tracking_stamp: u32,
        /// `runnableTime`.
        runnable_time: u32,
        /// `lockedm`.
        lockedm: u32,
        /// `parentGoid` (Go 1.21+).
        parent_goid: Option<u32>,
        /// `gopc`.
        gopc: u32,
        /// `startpc`.
        startpc: u32,
        /// `coroarg` (Go 1.22+).
        coroarg: Option<u32>,
        /// sizeof.
        size: u32,
    }
}

runtime_struct! {
    /// `runtime.m`, of `runtime2.go`. Patch releases have moved its fields.
    M = "m" {
        /// `g0`.
        g0: u32,
        /// `procid`.
        procid: u32,
        /// `gsignal`.
        gsignal: u32,
        /// `curg`.
        curg: u32,
        /// `p`.
        p: u32,
        /// `nextp`.
        nextp: u32,
        /// `oldp`.
        oldp: u32,
        /// `id`.
        id: u32,
        /// `locks`.
        locks: u32,
        /// `spinning`.
        spinning: u32,
        /// `blocked`.
        blocked: u32,
        /// `alllink`.
        alllink: u32,
        /// `lockedg`.
        lockedg: u32,
    }
}

runtime_struct! {
    /// `runtime.p`, of `runtime2.go`.
    P = "p" {
        /// `id`.
        id: u32,
        /// `status`.
        status: u32,
        /// `link`.
        link: u32,
        /// `schedtick`.
        schedtick: u32,
        /// `syscalltick`.
        syscalltick: u32,
        /// `sysmontick`.
        sysmontick: u32,
        /// `m`.
        m: u32,
        /// `runqhead`.
        runqhead: u32,
        /// `runqtail`.
        runqtail: u32,
        /// `runq`.
        runq: u32,
        /// Number of elements of `runq`.
        runq_len: u32,
        /// `runnext`.
        runnext: u32,
        /// `gFree.n`; from Go 1.25 `gFree.size`: how many dead gs it keeps.
        gfree: Option<u32>,
        /// `gcMarkWorkerMode`.
        gc_mark_worker_mode: u32,
        /// `preempt`.
        preempt: u32,
    }
}

runtime_struct! {
    /// `runtime.schedt`, of `runtime2.go`.
    Sched = "sched" {
        /// `goidgen`.
        goidgen: u32,
        /// `lastpoll`.
        lastpoll: u32,
        /// `pollUntil`.
        poll_until: u32,
        /// `lock`.
        lock: u32,
        /// `nmidle`.
        nmidle: u32,
        /// `nmidlelocked`.
        nmidlelocked: u32,
        /// `mnext`.
        mnext: u32,
        /// `maxmcount`.
        maxmcount: u32,
        /// `nmsys`.
        nmsys: u32,
        /// `nmfreed`.
        nmfreed: u32,
        /// `ngsys`.
        ngsys: u32,
        /// `pidle`.
        pidle: u32,
        /// `npidle`.
        npidle: u32,
        /// `nmspinning`.
        nmspinning: u32,
        /// `runq.head`.
        runq_head: u32,
        /// `runqsize`; from Go 1.25 `runq.size`.
        runqsize: u32,
        /// `gFree.n` (up to Go 1.24): how many dead gs are kept for all Ps.
        gfree: Option<u32>,
        /// `gFree.stack.size` (Go 1.25+): those of them that have kept their stack.
        gfree_stack: Option<u32>,
        /// `gFree.noStack.size` (Go 1.25+): the others.
        gfree_no_stack: Option<u32>,
        /// `gcwaiting`.
        gcwaiting: u32,
        /// `stopwait`.
        stopwait: u32,
        /// `sysmonwait`.
        sysmonwait: u32,
        /// `procresizetime`.
        procresizetime: u32,
        /// `timeToRun`.
        time_to_run: u32,
        /// `idleTime` (Go 1.21+).
        idle_time: Option<u32>,
        /// `stwStoppingTimeGC` (Go 1.22+).
        stw_stopping_time_gc: Option<u32>,
        /// `stwStoppingTimeOther` (Go 1.22+).
        stw_stopping_time_other: Option<u32>,
        /// `stwTotalTimeGC` (Go 1.22+).
        stw_total_time_gc: Option<u32>,
        /// `stwTotalTimeOther` (Go 1.22+).
        stw_total_time_other: Option<u32>,
        /// sizeof.
        size: u32,
    }
}

runtime_struct! {
    /// `runtime.timeHistogram`, of `histogram.go`.
    TimeHistogram = "time_histogram" {
        /// `counts`.
        counts: u32,
        /// Number of buckets in `counts`.
        buckets: u32,
        /// `underflow`.
        underflow: u32,
        /// `overflow` (Go 1.21+).
        overflow: Option<u32>,
        /// sizeof.
        size: u32,
    }
}

runtime_struct! {
    /// The constants `timeHist…` of `histogram.go`: what the buckets of a `timeHistogram` mean.
    TimeHist = "time_hist" {
        /// The constant `timeHistSubBucketBits`: buckets to a power of two, as a power of two.
        sub_bucket_bits: u32,
        /// The constant `timeHistMinBucketBits` (Go 1.21+).
        min_bucket_bits: Option<u32>,
        /// The constant `timeHistMaxBucketBits` (Go 1.21+).
        max_bucket_bits: Option<u32>,
        /// The constant `timeHistNumSuperBuckets` (Go 1.19).
        super_buckets: Option<u32>,
    }
}

runtime_struct! {
    /// `runtime.moduledata`, of `symtab.go`. Of slices and strings the offset of the pointer; length and
    /// capacity follow.
    Moduledata = "moduledata" {
        /// `pcHeader`.
        pc_header: u32,
        /// `pclntable`, a slice.
        pclntable: u32,
        /// `ftab`, a slice.
        ftab: u32,
        /// `minpc`.
        minpc: u32,
        /// `maxpc`.
        maxpc: u32,
        /// `text`.
        text: u32,
        /// `etext`.
        etext: u32,
        /// `noptrdata`.
        noptrdata: u32,
        /// `data`.
        data: u32,
        /// `bss`.
        bss: u32,
        /// `noptrbss`.
        noptrbss: u32,
        /// `end`.
        end: u32,
        /// `gofunc`.
        gofunc: u32,
        /// `modulename`, a string.
        modulename: u32,
        /// `hasmain`.
        hasmain: u32,
        /// `next`.
        next: u32,
        /// sizeof.
        size: u32,
    }
}

/// Byte offsets of the fields that gmpscope reads. `None`: this version has no such field.
///
/// Source: the `runtime` package of each Go version (`runtime2.go`, `histogram.go`, `symtab.go`), by
/// `cargo xtask layouts`.
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
    /// The meaning of its buckets.
    pub time_hist: TimeHist,
    /// `runtime.moduledata`.
    pub moduledata: Moduledata,
}

impl Layout {
    /// Fills a layout by the names that `fields.txt` gives to the fields.
    pub(super) fn from_fields(get: &Get<'_>) -> Result<Self, MissingField> {
        Ok(Self {
            g: G::from_fields(get)?,
            m: M::from_fields(get)?,
            p: P::from_fields(get)?,
            sched: Sched::from_fields(get)?,
            time_histogram: TimeHistogram::from_fields(get)?,
            time_hist: TimeHist::from_fields(get)?,
            moduledata: Moduledata::from_fields(get)?,
        })
    }

    #[cfg(test)]
    pub(super) fn names() -> Vec<(&'static str, bool)> {
        let time = [TimeHistogram::names(), TimeHist::names()].concat();
        [
            G::names(),
            M::names(),
            P::names(),
            Sched::names(),
            time,
            Moduledata::names(),
        ]
        .concat()
    }
}
