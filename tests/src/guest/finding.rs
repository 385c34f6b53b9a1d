//! The result of a check, as a line for `cargo xtask vm`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

/// The beginning of each line: the kernel prints to the same console.
const MARK: &str = "guest: ";

/// The number of printed lines.
static PRINTED: AtomicU64 = AtomicU64::new(0);

/// The result of one check.
#[derive(Debug, Serialize)]
pub struct Finding {
    check: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    go: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    ok: bool,
    detail: String,
    took_ms: u64,
    figures: BTreeMap<String, u64>,
    #[serde(skip)]
    began: Option<Instant>,
}

impl Finding {
    /// Makes the last line, with the number of lines before it, so that a line garbled by kernel messages is missed.
    pub fn finished() -> Self {
        let printed = PRINTED.load(Ordering::Relaxed);
        Self::of("finished")
            .figures(BTreeMap::from([("findings".to_owned(), printed)]))
            .held("all checks were made")
    }

    /// Begins a check.
    pub fn of(check: &'static str) -> Self {
        Self {
            check,
            go: None,
            mode: None,
            ok: false,
            detail: String::new(),
            took_ms: 0,
            figures: BTreeMap::new(),
            began: Some(Instant::now()),
        }
    }

    /// Sets the Go version of the traced program.
    pub fn go(mut self, version: &str) -> Self {
        self.go = Some(version.to_owned());
        self
    }

    /// Sets the mode.
    pub fn mode(mut self, mode: &'static str) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Sets the figures.
    pub fn figures(mut self, figures: BTreeMap<String, u64>) -> Self {
        self.figures = figures;
        self
    }

    /// Ends the check: it holds.
    pub fn held(mut self, detail: impl Into<String>) -> Self {
        self.ok = true;
        self.ended(detail.into())
    }

    /// Ends the check: it failed.
    pub fn failed(self, why: &anyhow::Error) -> Self {
        self.ended(format!("{why:#}"))
    }

    /// Ends the check with this outcome.
    pub fn outcome(self, outcome: anyhow::Result<String>) -> Self {
        match outcome {
            Ok(detail) => self.held(detail),
            Err(why) => self.failed(&why),
        }
    }

    fn ended(mut self, detail: String) -> Self {
        self.detail = detail;
        self.took_ms = self.began.map_or(0, |began| began.elapsed().as_millis() as u64);
        self
    }

    /// Prints it.
    pub fn print(&self) {
        PRINTED.fetch_add(1, Ordering::Relaxed);
        match serde_json::to_string(self) {
            Ok(json) => println!("{MARK}{json}"),
            Err(why) => println!("{MARK}{{\"check\":\"guest\",\"ok\":false,\"detail\":\"{why}\"}}"),
        }
    }
}
