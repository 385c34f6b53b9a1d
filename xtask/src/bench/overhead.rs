//! `cargo xtask bench overhead`: CPU time of the traced process per iteration, each way of tracing in turn
//! inside one live process, so that all of a row's figures come from the same heap, the same threads and
//! the same minute.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::capture::Capture;
use super::column::{self, Column, Tools};
use super::statistics::spread;
use super::{gmpscope, markdown};
use crate::go::Symbols;
use crate::setup::{self, Component};
use crate::workload::Workload;
use crate::{go, paths};

/// What each mode costs the traced program.
#[derive(clap::Args)]
pub struct Args {
    /// How often each way of tracing is measured
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of one measurement, in milliseconds
    #[arg(long, default_value_t = 1000)]
    window_ms: u64,
    /// Go release that the programs are built with
    #[arg(long, default_value = go::NEWEST)]
    go: String,
    /// Write the table into docs/overhead.md
    #[arg(long)]
    write: bool,
    /// Only these programs
    programs: Vec<String>,
}

/// A program of the table.
struct Program {
    /// Its folder in tests/workloads.
    name: &'static str,
    gomaxprocs: u32,
    /// What one iteration is.
    iteration: &'static str,
    /// Whether its load comes from `wrk`.
    http: bool,
}

const PROGRAMS: [Program; 5] = [
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
struct Sample {
    /// CPU time of the process per iteration.
    cpu_ns: f64,
    /// Iterations per second.
    rate: f64,
    /// What gmpscope says of itself: `overhead_ratio`, and hits per second of CPU time.
    own: Option<(Option<f64>, f64)>,
}

/// The samples of one program, a map per round.
type Rounds = Vec<BTreeMap<Column, Sample>>;

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let Some(&release) = go::RELEASES.iter().find(|release| **release == args.go) else {
        bail!("Go {} is none of {}", args.go, go::RELEASES.join(", "));
    };
    setup::ensure(&[Component::Bpf, Component::Go(release), Component::Bench])?;
    let gmpscope = gmpscope()?;
    let scratch = paths::target().join("bench");
    fs::create_dir_all(&scratch).with_context(|| format!("creating {}", scratch.display()))?;
    let mut table = Table::new(release, args);
    for program in PROGRAMS {
        if !args.programs.is_empty() && !args.programs.iter().any(|wanted| wanted == program.name) {
            continue;
        }
        let binary = go::build(release, program.name, Symbols::Kept)?;
        let tools = Tools {
            gmpscope: &gmpscope,
            workload: &binary,
            scratch: &scratch,
        };
        let rounds =
            measure(&program, &tools, args).with_context(|| format!("measuring {}", program.name))?;
        table.add(&program, &rounds)?;
    }
    let text = table.finish();
    println!("\n{text}");
    if args.write {
        let document: PathBuf = paths::root().join("docs/overhead.md");
        markdown::replace(&document, "cargo xtask bench overhead", &text)?;
        println!("written into {}", document.display());
    }
    Ok(())
}

fn measure(program: &Program, tools: &Tools, args: &Args) -> Result<Rounds> {
    let mut workload = Workload::start(tools.workload, &[], program.gomaxprocs)?;
    workload.run()?;
    let _load = program.http.then(|| Load::start(&workload)).transpose()?;
    // The first second is spent on growing heaps and starting threads.
    thread::sleep(Duration::from_secs(1));
    let mut rounds = Rounds::new();
    for round in 0..args.rounds {
        let mut samples = BTreeMap::new();
        // Every way of tracing comes at every place of the order, in case the machine drifts.
        let first = round % Column::ALL.len();
        for column in Column::ALL
            .into_iter()
            .cycle()
            .skip(first)
            .take(Column::ALL.len())
        {
            let sample = one(
                column,
                &mut workload,
                tools,
                Duration::from_millis(args.window_ms),
            )
            .with_context(|| format!("{} in round {round}", column.name()))?;
            samples.insert(column, sample);
        }
        let shown = Column::ALL.map(|c| {
            samples
                .get(&c)
                .map_or(0.0, |sample| sample.cpu_ns)
                .round()
                .to_string()
        });
        println!("   {} round {}: {} ns", program.name, round + 1, shown.join(", "));
        rounds.push(samples);
    }
    workload.stop()?;
    Ok(rounds)
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
        bail!("the program did nothing for {window:?}");
    }
    let cpu_ns = after.cpu_ns.saturating_sub(before.cpu_ns) as f64;
    Ok(Sample {
        cpu_ns: cpu_ns / iterations as f64,
        rate: iterations as f64 / took.as_secs_f64(),
        own: capture.map(|capture| (capture.capture.overhead_ratio, hits_per_second(&capture))),
    })
}

fn hits_per_second(capture: &Capture) -> f64 {
    capture.capture.probe_hits as f64 / capture.duration().as_secs_f64().max(1e-9)
}

/// `wrk`, for as long as this lives.
struct Load {
    child: Child,
}

impl Load {
    fn start(workload: &Workload) -> Result<Self> {
        let address = workload.first.extra.get("addr").and_then(|addr| addr.as_str());
        let address = address.context("http_hello does not say its address")?;
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
        // It may have ended by itself with the server.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The table as Markdown.
struct Table {
    head: String,
    cpu: String,
    own: String,
}

impl Table {
    fn new(release: &str, args: &Args) -> Self {
        let head = format!(
            "Measured on {}; Go {release}; {} rounds, each way of tracing in every round for {} ms.\n",
            markdown::machine(),
            args.rounds,
            args.window_ms
        );
        let mut cpu = String::from("| program | GOMAXPROCS | one iteration | untraced, CPU ns |");
        let mut rule = String::from("|---|--:|---|--:|");
        for column in Column::ALL.into_iter().skip(1) {
            let name = if column == Column::UntracedAgain {
                "untraced again (A/A)"
            } else {
                column.name()
            };
            cpu.push_str(&format!(" {name} |"));
            rule.push_str("--:|");
        }
        let own = String::from(
            "| program | mode | hits/s | hits × cost ÷ CPU, as gmpscope states it | measured: added CPU |\n|---|---|--:|--:|--:|\n",
        );
        Self {
            head,
            cpu: format!("{cpu}\n{rule}\n"),
            own,
        }
    }

    fn add(&mut self, program: &Program, rounds: &Rounds) -> Result<()> {
        let untraced = spread(rounds.iter().flat_map(|round| baseline(round).into_iter()));
        let untraced = untraced.context("no round was measured")?;
        write!(
            self.cpu,
            "| {} | {} | {} | {:.0} [{:.0}..{:.0}] |",
            program.name, program.gomaxprocs, program.iteration, untraced.median, untraced.low, untraced.high
        )?;
        for column in Column::ALL.into_iter().skip(1) {
            let ratios = rounds.iter().filter_map(|round| ratio(round, column));
            let ratios = spread(ratios).context("a column was not measured")?;
            write!(
                self.cpu,
                " ×{:.2} [{:.2}..{:.2}] |",
                ratios.median, ratios.low, ratios.high
            )?;
        }
        self.cpu.push('\n');
        for column in [Column::Passive, Column::Sampled, Column::Exact] {
            let own = || rounds.iter().filter_map(|round| round.get(&column)?.own);
            let hits = spread(own().map(|(_, hits)| hits)).context("no capture")?;
            let stated = spread(own().filter_map(|(stated, _)| stated)).map_or("–".to_owned(), |stated| {
                format!("{:.1} %", (stated.median - 1.0) * 100.0)
            });
            let added = spread(rounds.iter().filter_map(|round| ratio(round, column))).context("no ratio")?;
            writeln!(
                self.own,
                "| {} | {} | {:.0} | {stated} | {:.1} % |",
                program.name,
                column.name(),
                hits.median,
                (added.median - 1.0) * 100.0
            )?;
        }
        let rate = spread(
            rounds
                .iter()
                .filter_map(|round| Some(round.get(&Column::Untraced)?.rate)),
        );
        if let Some(rate) = rate {
            println!("   {}: {:.0} iterations/s untraced", program.name, rate.median);
        }
        Ok(())
    }

    fn finish(self) -> String {
        format!(
            "{}\nCPU time of the traced process per iteration; the other columns are ratios to the untraced \
             measurements of the same round. Medians over the rounds [least..greatest].\n\n{}\n{}",
            self.head, self.cpu, self.own
        )
    }
}

/// Both untraced measurements of a round.
fn baseline(round: &BTreeMap<Column, Sample>) -> Option<f64> {
    let first = round.get(&Column::Untraced)?.cpu_ns;
    let again = round.get(&Column::UntracedAgain)?.cpu_ns;
    Some((first + again) / 2.0)
}

/// A column against the untraced measurements of its round; the second of these against the first.
fn ratio(round: &BTreeMap<Column, Sample>, column: Column) -> Option<f64> {
    let traced = round.get(&column)?.cpu_ns;
    let untraced = match column {
        Column::UntracedAgain => round.get(&Column::Untraced)?.cpu_ns,
        _ => baseline(round)?,
    };
    (untraced > 0.0).then(|| traced / untraced)
}
