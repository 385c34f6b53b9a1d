//! Renders what the capture cost the target.

use std::fmt::Write;

use crate::document::capture::{Capture, CaptureMode};
use crate::output::text::layout::wrap;

/// Renders the cost of a capture.
pub fn render(capture: &Capture) -> String {
    let how = &capture.capture;
    if how.mode == CaptureMode::Passive && how.probe_hits == 0 {
        return wrap("cost: no probe; the process was not stopped once.", 0);
    }
    if how.probe_hits == 0 {
        return wrap("cost: no probe was hit.", 0);
    }
    let mut line = format!("cost: {} probe hits", how.probe_hits);
    if let Some([low, high]) = how.probe_cost_ns {
        let _ = write!(line, " of {low} to {high} ns each");
    }
    line.push('.');
    if let Some(measured) = how.overhead_measured {
        let _ = write!(
            line,
            " For each wait, the process used {} times the CPU time that it had used just before ({} to {}).",
            ratio(measured.ratio),
            ratio(measured.low),
            ratio(measured.high)
        );
    }
    if let Some(predicted) = how.overhead_predicted {
        let what = match how.overhead_measured {
            Some(_) => "The hits and their cost would make it",
            None => "The overhead was not measured; by the hits and their cost, the process used",
        };
        let end = match predicted.high {
            Some(high) => format!("{} to {}", ratio(predicted.low), ratio(high)),
            None => format!("{} or more", ratio(predicted.low)),
        };
        let times = match how.overhead_measured {
            Some(_) => "",
            None => " times the CPU time that it would have used without",
        };
        let _ = write!(line, " {what} {end}{times}.");
    }
    if let (None, None, Some(stated)) = (how.overhead_measured, how.overhead_predicted, how.overhead_ratio) {
        let _ = write!(
            line,
            " The version that captured this states a ratio of {}.",
            ratio(stated)
        );
    }
    if let Some(floor) = how.latency_floor_ns {
        let _ = write!(
            line,
            " Each latency contains at least {floor} ns that the probes add."
        );
    }
    wrap(&line, 0)
}

/// A ratio with as many decimals as it deserves.
fn ratio(ratio: f64) -> String {
    match ratio {
        ratio if ratio < 1.1 => format!("{ratio:.4}"),
        ratio if ratio < 2.0 => format!("{ratio:.2}"),
        ratio => format!("{ratio:.1}"),
    }
}
