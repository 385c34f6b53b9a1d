//! The line on a terminal that shows the progress of a capture.

use std::io::{self, IsTerminal};

use crate::output::text::units::{duration, seconds};
use crate::writing::stderr;

/// A line that is drawn over itself; nothing is drawn where stderr is not a terminal.
#[derive(Debug)]
pub struct ProgressLine {
    enabled: bool,
    drawn: bool,
}

impl ProgressLine {
    /// Returns a line on stderr, which is not drawn yet.
    pub fn stderr() -> Self {
        Self {
            enabled: io::stderr().is_terminal(),
            drawn: false,
        }
    }

    /// Draws the state of a capture: elapsed and total time (`None`: until Ctrl-C), waits and the 99th
    /// percentile so far.
    pub fn draw(&mut self, elapsed_ns: u64, total_ns: Option<u64>, waits: u64, p99_ns: Option<u64>) {
        if self.enabled {
            let line = line(elapsed_ns, total_ns, waits, p99_ns);
            // If nobody reads what was written before, more would only pile up.
            self.drawn |= stderr::write_if_idle(format!("\r\x1b[K{line}").as_bytes());
        }
    }

    /// Removes the line; to be called before anything else is written to the terminal.
    pub fn clear(&mut self) {
        if self.drawn {
            stderr::write(b"\r\x1b[K");
            stderr::settle();
            self.drawn = false;
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(elapsed_ns: u64, total_ns: Option<u64>, waits: u64, p99_ns: Option<u64>) -> String {
    let total = total_ns.map_or_else(String::new, |ns| format!(" of {}", seconds(ns)));
    let p99 = p99_ns.map_or_else(String::new, |ns| format!(", p99 {}", duration(ns)));
    format!(
        "{}{total}: {waits} waits{p99}; Ctrl-C ends it and prints",
        seconds(elapsed_ns)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_far_it_is() {
        let text = line(3_200_000_000, Some(10_000_000_000), 12_345, Some(1_279));
        assert_eq!(
            text,
            "3.2 s of 10.0 s: 12345 waits, p99 1.28us; Ctrl-C ends it and prints"
        );
        assert_eq!(
            line(0, None, 0, None),
            "0.0 s: 0 waits; Ctrl-C ends it and prints"
        );
    }
}
