//! Renders what stands out, with its evidence and advice.

use crate::escape::escape;
use crate::findings::{Finding, Severity};
use crate::output::text::layout::wrap;
use crate::output::text::style::Style;

/// Renders the findings.
pub fn render(findings: &[Finding], style: Style) -> String {
    let mut text = String::new();
    for finding in findings {
        let title = wrap(&format!("{}: {}", finding.severity, finding.title), 0);
        let title = match (style.colour, finding.severity) {
            (true, Severity::Warning) => format!("\x1b[1;33m{}\x1b[0m\n", title.trim_end()),
            (true, Severity::Info) => format!("\x1b[1m{}\x1b[0m\n", title.trim_end()),
            (false, _) => title,
        };
        text.push('\n');
        text.push_str(&title);
        text.push_str(&wrap(&finding.evidence.to_string(), 2));
        text.push_str(&wrap(&escape(&finding.advice), 2));
    }
    text
}
