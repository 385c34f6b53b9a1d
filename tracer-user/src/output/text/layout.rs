//! Breaks text into lines of at most [`WIDTH`] columns.

use crate::escape::Untrusted;

/// Most columns of all text output.
pub const WIDTH: usize = 80;

/// A blank at which lines are not broken.
pub const NO_BREAK: char = '\u{a0}';

/// Units that stay on the line of their number.
const UNITS: [&str; 5] = ["%", "s", "ms", "us", "ns"];

/// Returns `name` as one word for [`wrap`], in at most `width` columns ([`tail`]): a hostile name that is broken at a
/// blank could begin a line with any text.
pub fn word(name: &Untrusted, width: usize) -> String {
    tail(&name.to_string(), width).replace(' ', &NO_BREAK.to_string())
}

/// Returns a version of Go as one word for [`wrap`], with the `go` that captures leave out. A development version
/// begins with another word.
pub fn go_version(version: &Untrusted) -> String {
    let raw = version.raw().trim_start_matches("go");
    let prefix = if raw.starts_with(|c: char| c.is_ascii_digit()) {
        "go"
    } else {
        ""
    };
    format!("{prefix}{}", word(&raw.into(), WIDTH * 3 / 4))
}

/// Breaks `text` at blanks into lines of at most [`WIDTH`] columns, each with `indent` blanks before it. A word that is
/// longer than a line gets a separate line. A [`NO_BREAK`] becomes a blank, and no line is broken there.
pub fn wrap(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split([' ', '\n']).filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            lines.push('\n');
            column = 0;
        }
        if column == 0 {
            lines.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        } else {
            lines.push(' ');
            column += 1;
        }
        lines.extend(word.chars().map(|c| if c == NO_BREAK { ' ' } else { c }));
        column += length;
    }
    if column > 0 {
        lines.push('\n');
    }
    lines
}

/// Breaks `text` like [`wrap`], with `label`, which has at most `indent` columns, in place of the first line's blanks.
pub fn hang(label: &str, text: &str, indent: usize) -> String {
    let wrapped = wrap(text, indent);
    format!("{label}{}", wrapped.get(indent..).unwrap_or_default())
}

/// Puts a [`NO_BREAK`] between each number and its unit, for [`wrap`].
pub fn keep_units(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for (n, word) in text.split(' ').enumerate() {
        let unit = word.trim_end_matches([',', ';', ':', '.', ')']);
        let is_unit = kept.ends_with(|c: char| c.is_ascii_digit()) && UNITS.contains(&unit);
        if n > 0 {
            kept.push(if is_unit { NO_BREAK } else { ' ' });
        }
        kept.push_str(word);
    }
    kept
}

/// Shortens `name` to at most `width` columns. The end is kept, since Go's names differ at the end.
pub fn tail(name: &str, width: usize) -> String {
    let length = name.chars().count();
    if length <= width {
        return name.to_owned();
    }
    let kept = width.saturating_sub(2);
    std::iter::once("..".to_owned())
        .chain([name.chars().skip(length - kept).collect()])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_blanks() {
        let text = "word ".repeat(40);
        let wrapped = wrap(&text, 4);
        assert_eq!(wrapped.split_whitespace().count(), 40);
        assert!(
            wrapped
                .lines()
                .all(|line| line.starts_with("    word") && line.len() <= WIDTH)
        );
        assert_eq!(
            wrap(&format!("{} of{NO_BREAK}one", "x".repeat(77)), 0),
            format!("{}\nof one\n", "x".repeat(77))
        );
        assert_eq!(wrap("", 4), "");
        assert_eq!(wrap(&"x".repeat(100), 2), format!("  {}\n", "x".repeat(100)));
    }

    #[test]
    fn a_name_cannot_choose_where_a_line_begins() {
        let name = Untrusted::from(format!("/{} warning: all is lost\n", "x".repeat(70)));
        let wrapped = wrap(&format!("attached: {} (go1.27.3)", word(&name, 200)), 0);
        assert_eq!(
            wrapped,
            format!(
                "attached:\n/{} warning: all is lost\\u{{a}}\n(go1.27.3)\n",
                "x".repeat(70)
            )
        );
    }

    #[test]
    fn lines_hang_below_their_label() {
        let text = "word ".repeat(30);
        let hung = hang("  1.5s ", &text, 10);
        let lines: Vec<&str> = hung.lines().collect();
        assert!(
            lines.len() > 1 && lines[0].starts_with("  1.5s word word"),
            "{hung}"
        );
        assert!(
            lines[1..].iter().all(|line| line.starts_with("          word")),
            "{hung}"
        );
        assert!(hang("", &text, 2).starts_with("word"));
        assert!(lines.iter().all(|line| line.len() <= WIDTH));
    }

    #[test]
    fn a_number_keeps_its_unit() {
        assert_eq!(
            keep_units("12.1 ms (64 to 78 %), 3 s: 4 goroutines s 5"),
            "12.1\u{a0}ms (64 to 78\u{a0}%), 3\u{a0}s: 4 goroutines s 5"
        );
        let wrapped = wrap(&keep_units(&format!("{} 12.1 ms", "x".repeat(74))), 0);
        assert_eq!(wrapped, format!("{}\n12.1 ms\n", "x".repeat(74)));
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        assert_eq!(tail("example.com/pkg.(*T).Run.func1", 12), "...Run.func1");
        assert_eq!(tail("short", 12), "short");
        assert_eq!(tail("abcdefghijkl", 6), "..ijkl");
    }
}
