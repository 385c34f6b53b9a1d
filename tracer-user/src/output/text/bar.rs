//! Renders shares of causes as a bar of letters.

use crate::model::sched::Cause;
use crate::output::text::layout::WIDTH;

/// Columns between the ends of the bar.
const INSIDE: usize = WIDTH - 2;

/// The letter of a cause, which tables have beside its name.
pub const fn letter(cause: Cause) -> char {
    match cause {
        Cause::Yielded => 'Y',
        Cause::Stw => 'W',
        Cause::CgroupThrottled => 'T',
        Cause::LockedThread => 'L',
        Cause::ThreadWakeup => 'U',
        Cause::Spinning => 'S',
        Cause::NoThreadWoken => 'N',
        Cause::PBusy => 'B',
        Cause::Gc => 'G',
        Cause::OsPreempted => 'K',
        Cause::PInSyscall => 'C',
        Cause::ThreadBlocked => 'D',
        Cause::Scheduler => 'R',
        Cause::Unknown => '?',
    }
}

/// The colour of a cause on a terminal, as a parameter of SGR. None says more than the letter.
const fn colour(cause: Cause) -> u8 {
    match cause {
        Cause::Yielded => 37,
        Cause::Stw => 35,
        Cause::CgroupThrottled => 31,
        Cause::LockedThread => 36,
        Cause::ThreadWakeup => 34,
        Cause::Spinning => 94,
        Cause::NoThreadWoken => 33,
        Cause::PBusy => 32,
        Cause::Gc => 95,
        Cause::OsPreempted => 91,
        Cause::PInSyscall => 96,
        Cause::ThreadBlocked => 93,
        Cause::Scheduler => 92,
        Cause::Unknown => 90,
    }
}

/// What the letters of the bar are.
const LEGEND: &str = "(letters: the first column of the table)\n";

/// Renders shares, which add up to at most 1, one after the other in a line of [`WIDTH`] columns, and a line that says what
/// its letters are.
pub fn stacked(shares: impl IntoIterator<Item = (Cause, f64)>, has_colour: bool) -> String {
    let mut bar = "|".to_owned();
    let (mut sum, mut filled) = (0.0, 0);
    for (cause, share) in shares {
        sum += share;
        let end = ((sum * INSIDE as f64).round() as usize).clamp(filled, INSIDE);
        let part = letter(cause).to_string().repeat(end - filled);
        filled = end;
        match has_colour && !part.is_empty() {
            true => bar.push_str(&format!("\x1b[{}m{part}\x1b[0m", colour(cause))),
            false => bar.push_str(&part),
        }
    }
    bar.push_str(&" ".repeat(INSIDE - filled));
    bar.push_str("|\n");
    bar.push_str(LEGEND);
    bar
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The bar itself, without the line below it.
    fn line(bar: &str) -> &str {
        bar.lines().next().unwrap()
    }

    #[test]
    fn the_bar_and_what_its_letters_are_have_a_line_each() {
        let bar = stacked([(Cause::PBusy, 1.0)], false);
        let lines: Vec<&str> = bar.lines().collect();
        assert_eq!(lines.len(), 2, "{bar}");
        assert!(lines.iter().all(|line| line.len() <= WIDTH), "{bar}");
    }

    #[test]
    fn no_two_causes_have_the_same_letter_or_colour() {
        let letters: BTreeSet<char> = Cause::ALL.into_iter().map(letter).collect();
        let colours: BTreeSet<u8> = Cause::ALL.into_iter().map(colour).collect();
        assert_eq!((letters.len(), colours.len()), (Cause::COUNT, Cause::COUNT));
    }

    #[test]
    fn parts_are_as_long_as_their_shares_and_fill_the_line() {
        let bar = stacked(
            [(Cause::PBusy, 0.5), (Cause::Gc, 0.25), (Cause::Stw, 0.25)],
            false,
        );
        let count = |letter: char| line(&bar).matches(letter).count();
        assert_eq!((count('B'), count('G'), count('W')), (39, 20, 19));
        assert_eq!(line(&bar).len(), WIDTH);
        // What is rounded away from one part is not missing from the whole.
        let many = stacked(Cause::ALL.map(|cause| (cause, 1.0 / Cause::COUNT as f64)), false);
        assert_eq!(line(&many).len(), WIDTH);
        assert!(!line(&many).contains(' '), "{many}");
    }

    #[test]
    fn shares_that_are_wrong_do_not_make_the_line_longer() {
        for shares in [[2.0, 1.0], [-1.0, 0.5], [f64::NAN, 0.5], [0.0, 0.0]] {
            let bar = stacked([(Cause::PBusy, shares[0]), (Cause::Gc, shares[1])], false);
            assert_eq!(line(&bar).len(), WIDTH, "{shares:?}");
        }
    }

    #[test]
    fn colours_change_nothing_but_the_colour() {
        let shares = [(Cause::PBusy, 0.9), (Cause::Gc, 0.0), (Cause::Unknown, 0.1)];
        let (plain, coloured) = (stacked(shares, false), stacked(shares, true));
        assert_eq!(
            coloured
                .replace("\x1b[32m", "")
                .replace("\x1b[90m", "")
                .replace("\x1b[0m", ""),
            plain
        );
        assert!(
            !coloured.contains("\x1b[95m"),
            "nothing to be coloured: {coloured}"
        );
    }
}
