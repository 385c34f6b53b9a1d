//! Parses the goroutines in the output of a program's own `runtime.Stack`.

use anyhow::{Context, Result};

/// A goroutine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goroutine {
    /// The wait reason or the state: `chan receive`, `running`.
    pub does: String,
    /// Its calls, innermost first: `FUNCTION FILE:LINE`. Those of the runtime are hidden, unless they are exported.
    pub calls: Vec<String>,
    /// The `go` statement that created it; `None` for the first goroutine.
    pub created_at: Option<String>,
}

/// Parses every goroutine of a text that `runtime.Stack(text, true)` wrote.
///
/// # Errors
/// The text is something else.
pub fn parse(text: &str) -> Result<Vec<Goroutine>> {
    text.split("\n\n")
        .filter(|block| !block.trim().is_empty())
        .map(one)
        .collect()
}

fn one(block: &str) -> Result<Goroutine> {
    let wrong = || format!("no goroutine of runtime.Stack: {block}");
    let mut lines = block.trim().lines();
    let head = lines.next().with_context(wrong)?;
    let (_, does) = head
        .strip_prefix("goroutine ")
        .and_then(|rest| rest.split_once(" ["))
        .with_context(wrong)?;
    // `[chan receive, 2 minutes]:`
    let does = does.split([',', ']']).next().unwrap_or_default();
    let mut goroutine = Goroutine {
        does: does.to_owned(),
        calls: Vec::new(),
        created_at: None,
    };
    while let (Some(call), Some(place)) = (lines.next(), lines.next()) {
        let place = place.trim();
        let place = place.split_once(" +0x").map_or(place, |(place, _)| place);
        match call.strip_prefix("created by ") {
            Some(made) => {
                // `created by main.main in goroutine 1` from Go 1.21 on.
                let function = made
                    .split_once(" in goroutine ")
                    .map_or(made, |(function, _)| function);
                goroutine.created_at = Some(format!("{function} {place}"));
            }
            None => {
                let arguments = call.rfind('(').with_context(wrong)?;
                goroutine.calls.push(format!("{} {place}", &call[..arguments]));
            }
        }
    }
    Ok(goroutine)
}
