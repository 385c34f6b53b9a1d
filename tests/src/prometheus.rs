//! A real Prometheus that scrapes the daemon and answers queries.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::environment::HINT;
use crate::http;

/// How long it may take to listen.
const STARTED: Duration = Duration::from_secs(60);

/// A server, with its data in a folder of its own; killed on drop.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    dir: TempDir,
}

/// The path of `prometheus` or `promtool`, in the folder that `GMPSCOPE_PROMETHEUS` names.
pub fn program(name: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("GMPSCOPE_PROMETHEUS")
        .with_context(|| format!("GMPSCOPE_PROMETHEUS does not name the folder of Prometheus: {HINT}"))?;
    let path = PathBuf::from(folder).join(name);
    ensure!(path.is_file(), "{} is not there: {HINT}", path.display());
    Ok(path)
}

impl Prometheus {
    /// Starts a server that scrapes this address each second.
    pub fn start(scraped: SocketAddr, native_histograms: bool) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Self::start_at(address, scraped, native_histograms, &[])
    }

    /// Starts a server that scrapes itself and collects garbage much of the time.
    pub fn start_alone() -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Self::start_at(address, address, false, &[("GOGC", "5")])
    }

    fn start_at(
        address: SocketAddr,
        scraped: SocketAddr,
        native_histograms: bool,
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let config = dir.path().join("prometheus.yml");
        std::fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 1s}}\n\
                 scrape_configs: [{{job_name: gmpscope, static_configs: [{{targets: ['{scraped}']}}]}}]\n"
            ),
        )?;
        let log = File::create(dir.path().join("log"))?;
        let mut command = Command::new(program("prometheus")?);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .env("GOMAXPROCS", "2")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if native_histograms {
            command.arg("--enable-feature=native-histograms");
        }
        let child = command.spawn().context("starting prometheus")?;
        let mut prometheus = Self { child, address, dir };
        let end = Instant::now() + STARTED;
        while !http::get(address, "/-/ready").is_ok_and(|answer| answer.status == 200) {
            if Instant::now() > end || prometheus.child.try_wait()?.is_some() {
                bail!("Prometheus does not run. It said:\n{}", prometheus.log());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(prometheus)
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id: Prometheus is a Go program, too.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Evaluates a query now: labels and value of each series.
    pub fn query(&self, promql: &str) -> Result<Vec<(Value, Value)>> {
        let escaped: String = promql
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => (byte as char).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect();
        let answer = http::get(self.address, &format!("/api/v1/query?query={escaped}"))?;
        let answer: Value = serde_json::from_str(answer.text()?)?;
        ensure!(answer["status"] == "success", "{promql}: {answer}");
        let series = answer["data"]["result"].as_array().context("no result")?;
        Ok(series
            .iter()
            .map(|one| {
                let value = one.get("histogram").or(one.get("value")).cloned();
                (one["metric"].clone(), value.unwrap_or(Value::Null)[1].clone())
            })
            .collect())
    }

    /// Evaluates a query to one number; `None` if there is no series.
    pub fn number(&self, promql: &str) -> Result<Option<f64>> {
        let series = self.query(promql)?;
        match series.as_slice() {
            [] => Ok(None),
            [(_, Value::String(number))] => Ok(Some(number.parse()?)),
            more => bail!("{promql}: {more:?} is not one number"),
        }
    }

    /// Waits until a query evaluates to one number for which `is_it` holds.
    pub fn wait_for(&self, promql: &str, is_it: impl Fn(f64) -> bool) -> Result<f64> {
        let end = Instant::now() + STARTED;
        loop {
            let number = self.number(promql)?;
            if let Some(number) = number.filter(|&n| is_it(n)) {
                return Ok(number);
            }
            if Instant::now() > end {
                let targets = http::get(self.address, "/api/v1/targets")?;
                bail!(
                    "{promql} is {number:?}. Its targets: {}",
                    targets.text().unwrap_or_default()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
