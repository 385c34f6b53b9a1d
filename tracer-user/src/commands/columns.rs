//! Text in columns, at most 80 of them.

use crate::output::text::layout::WIDTH;

/// Breaks `text` at spaces into lines that begin at column `indent` and end before column 80; a word that is too long
/// stays whole. The first line is not indented: the caller has written something before it.
pub fn hanging(text: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut column = indent;
    for (line, first_line) in text
        .lines()
        .zip(std::iter::once(true).chain(std::iter::repeat(false)))
    {
        if !first_line {
            new_line(&mut out, &mut column, indent);
        }
        for word in line.split_whitespace() {
            let width = word.chars().count();
            if column > indent && column + 1 + width > WIDTH {
                new_line(&mut out, &mut column, indent);
            } else if column > indent {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += width;
        }
    }
    out
}

fn new_line(out: &mut String, column: &mut usize, indent: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', indent));
    *column = indent;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_lose_nothing() {
        let text = "a b ".repeat(60) + &"long".repeat(30) + " end\nsecond line";
        let shown = format!("{}{}", " ".repeat(30), hanging(&text, 30));
        for line in shown.lines() {
            assert!(line.len() <= WIDTH || line.trim() == "long".repeat(30), "{line}");
            assert!(line.starts_with(&" ".repeat(30)));
        }
        let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
        assert_eq!(words(&shown), words(&text));
        assert!(shown.ends_with("\n                              second line"));
    }
}
