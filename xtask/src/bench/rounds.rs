//! Measures one live process while it is traced in several ways, round by round.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::against::{Pair, Sides};
use super::capture::{Capture, Predicted};
use super::column::{self, Column, Tools};
use crate::workload::Workload;

/// A program that is measured.
pub struct Program {
    /// The name of its folder in tests/workloads.
    pub name: &'static str,
    /// The number of Ps that it runs with.
    pub gomaxprocs: u32,
    /// What it does in one iteration.
    pub iteration: &'static str,
    /// Whether `wrk` loads it.
    pub http: bool,
}

/// The programs, worst cases first: the first three do nothing but switch goroutines.
pub const PROGRAMS: [Program; 5] = [
    Program {
        name: "pingpong",
        gomaxprocs: 1,
        iteration: "round trip over two channels",
        http: false,
    },
    Program {
        name: "gosched_storm",
        gomaxprocs: 2,
        iteration: "`runtime.Gosched` of 64 goroutines",
        http: false,
    },
    Program {
        name: "spawn",
        gomaxprocs: 2,
        iteration: "goroutine made and ended",
        http: false,
    },
    Program {
        name: "pool",
        gomaxprocs: 2,
        iteration: "10 µs job taken by one of 64 workers",
        http: false,
    },
    Program {
        name: "http_hello",
        gomaxprocs: 2,
        iteration: "request to net/http under `wrk`",
        http: true,
    },
];

/// One measurement.
#[derive(Clone, Debug)]
pub struct Sample {
    /// CPU time of the process per iteration.
    pub cpu_ns: f64,
    /// Iterations per second.
    pub rate: f64,
    /// What gmpscope reports about its own cost, if it traced.
    pub own: Option<Own>,
}

/// What gmpscope reports about its own cost.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    /// The ratio of CPU times as it predicts it.
    pub predicted: Option<Predicted>,
    /// The ratio as it measured it itself.
    pub measured: Option<f64>,
    /// Hits per second.
    pub hits: f64,
    /// Events lost in the window.
    pub lost: u64,
}

/// The samples of one program, one map per round.
pub type Rounds = Vec<BTreeMap<Column, Sample>>;

/// Measures a program once per round for each of these columns.
pub fn measure(
    program: &Program,
    columns: &[Column],
    rounds: usize,
    window: Duration,
    tools: &Tools,
) -> Result<Rounds> {
    let (mut workload, _load) = start(program, tools.workload)?;
    let mut all = Rounds::new();
    for round in 0..rounds {
        let mut samples = BTreeMap::new();
        // Each round begins with another column, in case the machine drifts.
        let first = round % columns.len();
        for column in columns.iter().copied().cycle().skip(first).take(columns.len()) {
            let sample = one(column, &mut workload, tools, window)
                .with_context(|| format!("{} in round {round}", column.name()))?;
            samples.insert(column, sample);
        }
        let shown: Vec<String> = columns
            .iter()
            .filter_map(|column| Some(samples.get(column)?.cpu_ns.round().to_string()))
            .collect();
        println!("   {} round {}: {} ns", program.name, round + 1, shown.join(", "));
        all.push(samples);
    }
    workload.stop()?;
    Ok(all)
}

/// Measures a program for each of these columns with two binaries, which take turns.
pub fn compare(
    program: &Program,
    columns: &[Column],
    sides: &Sides,
    window: Duration,
    tools: &Tools,
) -> Result<Vec<(Column, Vec<Pair<Sample>>)>> {
    let (mut workload, _load) = start(program, tools.workload)?;
    let mut all = Vec::new();
    for &column in columns {
        println!("   {}, {}", program.name, column.name());
        let pairs = sides.measure(|gmpscope| {
            let tools = Tools {
                gmpscope,
                workload: tools.workload,
                scratch: tools.scratch,
            };
            one(column, &mut workload, &tools, window)
                .with_context(|| format!("{} with {}", column.name(), gmpscope.display()))
        })?;
        all.push((column, pairs));
    }
    workload.stop()?;
    Ok(all)
}

/// Starts a program, and its load if it needs one.
fn start(program: &Program, binary: &Path) -> Result<(Workload, Option<Load>)> {
    let mut workload = Workload::start(binary, &[], program.gomaxprocs)?;
    workload.run()?;
    let load = program.http.then(|| Load::start(&workload)).transpose()?;
    // The first second is spent on growing heaps and starting threads.
    thread::sleep(Duration::from_secs(1));
    Ok((workload, load))
}

fn one(column: Column, workload: &mut Workload, tools: &Tools, window: Duration) -> Result<Sample> {
    let tracer = column::begin(column, workload, tools)?;
    let began = Instant::now();
    let before = workload.command("count")?;
    thread::sleep(window);
    let after = workload.command("count")?;
    let took = began.elapsed();
    let capture = column::end(column, tracer, began, workload, tools)?;
    let iterations = after.iterations.saturating_sub(before.iterations);
    if iterations == 0 {
        bail!("the program made no iteration in {window:?}");
    }
    let cpu_ns = after.cpu_ns.saturating_sub(before.cpu_ns) as f64;
    Ok(Sample {
        cpu_ns: cpu_ns / iterations as f64,
        rate: iterations as f64 / took.as_secs_f64(),
        own: capture.map(|capture| Own {
            predicted: capture.capture.overhead_predicted,
            measured: capture.capture.overhead_measured.map(|measured| measured.ratio),
            hits: hits_per_second(&capture),
            lost: capture.capture.lost_events,
        }),
    })
}

fn hits_per_second(capture: &Capture) -> f64 {
    capture.capture.probe_hits as f64 / capture.duration().as_secs_f64().max(1e-9)
}

/// A running `wrk`, which is killed when this is dropped.
struct Load {
    child: Child,
}

impl Load {
    fn start(workload: &Workload) -> Result<Self> {
        let address = workload.first.extra.get("addr").and_then(|addr| addr.as_str());
        let address = address.context("http_hello does not report its address")?;
        let child = Command::new("wrk")
            .args(["-t1", "-c64", "-d3600s", &format!("http://{address}/")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("starting wrk")?;
        Ok(Self { child })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have exited with the server.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The mean of the two untraced measurements of a round.
pub fn baseline(round: &BTreeMap<Column, Sample>) -> Option<f64> {
    let first = round.get(&Column::Untraced)?.cpu_ns;
    let again = round.get(&Column::UntracedAgain)?.cpu_ns;
    Some((first + again) / 2.0)
}

/// The ratio of a column to the untraced measurements of its round; for the second of these, to the first.
pub fn ratio(round: &BTreeMap<Column, Sample>, column: Column) -> Option<f64> {
    let traced = round.get(&column)?.cpu_ns;
    let untraced = match column {
        Column::UntracedAgain => round.get(&Column::Untraced)?.cpu_ns,
        _ => baseline(round)?,
    };
    (untraced > 0.0).then(|| traced / untraced)
}
