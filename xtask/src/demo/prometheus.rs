//! `cargo xtask demo --prometheus`: the daemon watches a Go program, Prometheus scrapes the daemon and answers
//! questions.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process::Running;
use crate::setup::{self, Component, prometheus};
use crate::workload::Workload;
use crate::{build, go, paths, privilege, step};

/// How long to wait for an answer, which takes two readings of the program and two scrapes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The questions, each in words and as PromQL.
const QUESTIONS: [(&str, &str); 3] = [
    (
        "how long 99 % of the waits took at most, in seconds",
        "histogram_quantile(0.99, sum by (le) (rate(gmpscope_sched_latencies_seconds_bucket{comm=\"pool\"}[15s])))",
    ),
    (
        "waits per second (of the runtime's own sample)",
        "sum(rate(gmpscope_sched_latencies_seconds_count{comm=\"pool\"}[15s]))",
    ),
    (
        "goroutines that could run and do not",
        "sum(gmpscope_goroutines{comm=\"pool\",state=\"runnable\"})",
    ),
];

/// Runs the demonstration.
pub fn run() -> Result<()> {
    setup::ensure(&[
        Component::Bpf,
        Component::Linker,
        Component::Prometheus,
        Component::Go(go::NEWEST),
    ])?;
    build::release()?;
    step::title("a Go program to trace");
    let binary = go::build(go::NEWEST, "pool", go::Symbols::Stripped)?;
    let mut workload = Workload::start(&binary, &[], 2)?;
    workload.run()?;
    let place = tempfile::tempdir()?;
    let (daemon_at, prometheus_at) = (free_port()?, free_port()?);

    let flags = ["--tier-passive-interval", "1s", "--http-listen"];
    let listen = daemon_at.to_string();
    step::title(&format!("gmpscope daemon {} {listen}", flags.join(" ")));
    let gmpscope = paths::release_binary();
    let program = gmpscope
        .to_str()
        .context("the path of the target folder is not UTF-8")?;
    let arguments = [&["daemon"], flags.as_slice(), &[listen.as_str()]].concat();
    let _daemon = server(&mut privilege::as_root(program, &arguments)?, &place, "gmpscope")?;

    step::title("prometheus, which scrapes it each second");
    let config = place.path().join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 1s}}\n\
         scrape_configs: [{{job_name: gmpscope, static_configs: [{{targets: ['{daemon_at}']}}]}}]\n"
    );
    fs::write(&config, &text)?;
    print!(
        "{}",
        text.lines()
            .map(|line| format!("   {line}\n"))
            .collect::<String>()
    );
    let mut command = Command::new(prometheus::folder()?.join("prometheus"));
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            place.path().join("data").display()
        ))
        .arg(format!("--web.listen-address={prometheus_at}"));
    let _prometheus = server(&mut command, &place, "prometheus")?;

    for (meaning, question) in QUESTIONS {
        step::title(meaning);
        println!("   {question}");
        println!("   = {}", answer(prometheus_at, question, &place)?);
    }
    workload.stop()
}

/// Starts a server with its output in a file of `place`.
fn server(command: &mut Command, place: &tempfile::TempDir, name: &str) -> Result<Running> {
    let log = File::create(place.path().join(format!("{name}.log")))?;
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    Ok(Running(child))
}

/// A local address that nobody listens on.
fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Asks Prometheus until it answers with a number.
fn answer(at: SocketAddr, question: &str, place: &tempfile::TempDir) -> Result<String> {
    let began = Instant::now();
    loop {
        let result = ask(at, question);
        match &result {
            Ok(Some(number)) if number != "NaN" => return Ok(number.clone()),
            _ if began.elapsed() > ANSWER_TIMEOUT => {
                let logs = ["gmpscope", "prometheus"].map(|name| {
                    let log = place.path().join(format!("{name}.log"));
                    format!("{name} printed:\n{}", fs::read_to_string(log).unwrap_or_default())
                });
                bail!(
                    "no answer within {ANSWER_TIMEOUT:?}: {result:?}\n{}",
                    logs.join("\n")
                );
            }
            _ => thread::sleep(Duration::from_millis(250)),
        }
    }
}

/// The parts of an answer of Prometheus's HTTP API that are read.
#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    value: (f64, String),
}

/// Asks Prometheus once. `None` if it has no value yet.
fn ask(at: SocketAddr, question: &str) -> Result<Option<String>> {
    let escaped: String = question
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // HTTP/1.0: the body is not chunked and ends with the connection.
    write!(stream, "GET /api/v1/query?query={escaped} HTTP/1.0\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let (_, body) = response
        .split_once("\r\n\r\n")
        .context("the answer is not HTTP")?;
    let answer: Answer = serde_json::from_str(body).with_context(|| format!("Prometheus answered {body}"))?;
    Ok(answer.data.result.into_iter().next().map(|series| series.value.1))
}
