//! Measures what the daemon costs a host, and whether the cost grows: the tables of docs/daemon.md. `daemon cost FILE`
//! and `daemon soak SECONDS FILE` write one to FILE; both fail where a bound is exceeded.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gmpscope_tests::crowd::Crowd;
use gmpscope_tests::daemon::{Daemon, Held};

/// Go processes of the idle host.
const IDLE: usize = 100;
/// How long its daemon is measured.
const MEASURED: Duration = Duration::from_secs(60);
/// The number of scrapes whose median is reported.
const SCRAPES: usize = 21;
/// The host with many processes: standing ones, starts per second, and for how long.
const BUSY: (usize, u32, Duration) = (1000, 50, Duration::from_secs(60));
/// Processes of a soak: watched without and with a probe; starts per second.
const SOAKED: (usize, usize, u32) = (40, 10, 4);
/// How much its memory may grow after it is warm.
const GROWTH: u64 = 2 << 20;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (file, table) = match words.as_slice() {
        ["cost", file] => (file, cost()?),
        ["soak", seconds, file] => (file, soak(Duration::from_secs(seconds.parse()?))?),
        other => bail!("neither `cost FILE` nor `soak SECONDS FILE`: {other:?}"),
    };
    std::fs::write(file, table).with_context(|| format!("writing {file}"))
}

/// Measures an idle host, and one on which processes come and go.
fn cost() -> Result<String> {
    let mut table = String::from(
        "| host | CPU of the daemon, % of one core | memory, MB | descriptors | a scrape, ms [least..greatest] | of it, KB |\n\
         |---|--:|--:|--:|--:|--:|\n",
    );
    let crowd = Crowd::of("idle", IDLE, &[])?;
    let daemon = Daemon::start_as_installed(&crowd.rule("passive"))?;
    crowd.wait_until_alone(&daemon)?;
    let (cpu, began) = (cpu(daemon.pid())?, Instant::now());
    std::thread::sleep(MEASURED);
    let share = (self::cpu(daemon.pid())? - cpu) / began.elapsed().as_secs_f64();
    row(
        &mut table,
        &format!("{IDLE} idle Go processes, `passive` each 10 s"),
        share,
        &daemon,
    )?;
    drop((daemon, crowd));

    let (standing, starts, time) = BUSY;
    let crowd = Crowd::of("idle", standing, &[])?;
    let daemon = Daemon::start(&crowd.rule("passive"))?;
    // First until it has had as many at once as it will ever have: memory for that is not growth.
    crowd.pass(&daemon, starts, time)?;
    let before = crowd.wait_until_alone(&daemon)?;
    let (cpu, began) = (self::cpu(daemon.pid())?, Instant::now());
    let passed = crowd.pass(&daemon, starts, time)?;
    let share = (self::cpu(daemon.pid())? - cpu) / began.elapsed().as_secs_f64();
    let after = crowd.wait_until_alone(&daemon)?;
    let what =
        format!("{standing} idle ones and {starts} starts a second, read each 0.5 s and scraped as often");
    row(&mut table, &what, share, &daemon)?;
    same(&before, &after)?;
    ensure!(passed.missed.is_empty(), "never reported: {:?}", passed.missed);
    writeln!(
        table,
        "\nOf the {} that were started and lived 2.5 s, none was missed; afterwards the daemon held as many descriptors \
         as before, and {} KB more memory.",
        passed.started,
        after.private_bytes.saturating_sub(before.private_bytes) >> 10
    )?;
    Ok(table)
}

fn row(table: &mut String, what: &str, share: f64, daemon: &Daemon) -> Result<()> {
    let mut times = Vec::new();
    let mut size = 0;
    for _ in 0..SCRAPES {
        let began = Instant::now();
        size = daemon.get("/metrics")?.ok()?.body.len();
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let held = daemon.holds()?;
    writeln!(
        table,
        "| {what} | {:.2} | {:.1} | {} | {:.1} [{:.1}..{:.1}] | {} |",
        share * 100.0,
        held.resident_bytes as f64 / 1e6,
        held.open(),
        times[SCRAPES / 2],
        times[0],
        times[SCRAPES - 1],
        size / 1000
    )?;
    eprintln!("{}", table.lines().last().unwrap_or_default());
    Ok(())
}

/// CPU time of a process in seconds: the sum of /proc/PID/schedstat over its threads.
fn cpu(pid: u32) -> Result<f64> {
    let mut all = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let ran: u64 = text.split(' ').next().context("an empty schedstat")?.parse()?;
        all += ran;
    }
    Ok(all as f64 / 1e9)
}

/// Has processes come and go for hours, some of them probed, and measures what the daemon holds when they are gone.
fn soak(duration: Duration) -> Result<String> {
    let (passive, probed, starts) = SOAKED;
    let crowd = Crowd::of("idle", passive, &[])?;
    let probed = Crowd::of("checksum", probed, &["-pause", "20ms"])?;
    let config = format!(
        "[budget]\ntarget = \"100%\"\ntarget_floor = \"1s\"\nhost = \"100%\"\n{}{}",
        crowd.rule("passive"),
        probed.rule("sampled")
    );
    let daemon = Daemon::start(&config)?;
    let began = Instant::now();
    let round = (duration / 12).clamp(Duration::from_secs(10), Duration::from_secs(240));
    let mut table = String::from(
        "| after | starts so far | memory, KB | of it private, KB | descriptors | links |\n|--:|--:|--:|--:|--:|--:|\n",
    );
    let (mut all, mut warm) = (0, None::<Held>);
    while began.elapsed() < duration || warm.is_none() {
        // Processes of both kinds come and go.
        let passed = crowd.pass(&daemon, starts, round / 2)?;
        let sampled = probed.pass(&daemon, starts, round / 2)?;
        ensure!(
            passed.missed.is_empty() && sampled.missed.is_empty(),
            "never reported: {:?} {:?}",
            passed.missed,
            sampled.missed
        );
        all += passed.started + sampled.started;
        crowd.wait_until_alone(&daemon)?;
        let held = probed.wait_until_alone(&daemon)?;
        writeln!(
            table,
            "| {} s | {all} | {} | {} | {} | {} |",
            began.elapsed().as_secs(),
            held.resident_bytes >> 10,
            held.private_bytes >> 10,
            held.open(),
            held.links()
        )?;
        eprintln!("{}", table.lines().last().unwrap_or_default());
        match &warm {
            Some(warm) => same(warm, &held)?,
            None => warm = Some(held),
        }
    }
    Ok(table)
}

/// Fails if it holds more than before.
fn same(before: &Held, after: &Held) -> Result<()> {
    ensure!(
        after.descriptors == before.descriptors,
        "descriptors were {:?} and are {:?}",
        before.descriptors,
        after.descriptors
    );
    ensure!(
        after.resident_bytes <= before.resident_bytes + GROWTH,
        "memory was {} and is {} KB",
        before.resident_bytes >> 10,
        after.resident_bytes >> 10
    );
    Ok(())
}
