//! Renders the estimate of causes of `passive` and `sampled`.

use std::fmt::Write;

use crate::document::capture::Capture;
use crate::document::cause_estimate::{CauseEstimate, ShareEstimate};
use crate::model::sched::Cause;
use crate::output::text::bar::{letter, stacked};
use crate::output::text::layout::wrap;
use crate::output::text::style::Style;

/// Renders the estimate; an empty text where there is none.
pub fn render(capture: &Capture, style: Style) -> String {
    let Some(estimate) = capture
        .cause_estimate
        .as_ref()
        .filter(|estimate| estimate.samples > 0)
    else {
        return String::new();
    };
    let mut causes: Vec<(Cause, ShareEstimate)> = estimate
        .by_cause
        .iter()
        .map(|(cause, share)| (**cause, *share))
        .collect();
    causes.sort_by(|(a, of_a), (b, of_b)| of_b.share.total_cmp(&of_a.share).then(a.cmp(b)));
    let mut text = "\n".to_owned();
    if !causes.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<20} {:>7}  95 % interval", "why they waited", "share");
        for (cause, of) in &causes {
            let _ = writeln!(
                text,
                "{} {:<18} {:>7}  {} to {}",
                letter(*cause),
                cause.name(),
                percent(of.share),
                percent(of.low),
                percent(of.high)
            );
        }
        let shares = causes.iter().map(|(cause, of)| (*cause, of.share));
        text.push_str(&stacked(shares, style.colour));
    }
    text.push_str(&wrap(&samples(estimate), 0));
    text
}

/// Renders what the estimate is made from, and what it cannot see.
fn samples(estimate: &CauseEstimate) -> String {
    let torn = match estimate.torn {
        0 => String::new(),
        torn => format!(" ({torn} more were left out, since the Ps changed meanwhile)"),
    };
    format!(
        "estimated from {} samples of the run queues{torn}: in {} of them at least one goroutine could run and did not. \
         Voluntary yields, and goroutines that are locked to a thread, cannot be distinguished.",
        estimate.samples,
        percent(estimate.some)
    )
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}
