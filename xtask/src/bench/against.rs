//! `--against BINARY`: two gmpscope binaries, measured side by side.
//!
//! They take turns in the order A B B A, and only neighbours are compared, so that a machine that becomes slower or
//! faster meanwhile becomes it for both. Measuring first the one and then the other was rejected: minutes apart, two
//! equal measurements differ by more than most changes that are looked for.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::markdown;
use super::statistics::spread;

/// The head of the table whose rows [`row`] makes.
const HEAD: &str = "| | ours | theirs | ours ÷ theirs |\n|---|--:|--:|--:|\n";

/// Two binaries, and how often they take turns.
pub struct Sides {
    ours: PathBuf,
    theirs: PathBuf,
    rounds: usize,
}

/// What was measured of each, one directly after the other.
pub struct Pair<T> {
    ours: T,
    theirs: T,
}

impl Sides {
    /// The binary that is measured anyway, and the one that `--against` names.
    pub fn new(ours: PathBuf, against: &Path, rounds: usize) -> Result<Self> {
        let theirs = against
            .canonicalize()
            .with_context(|| format!("--against {}", against.display()))?;
        Ok(Self { ours, theirs, rounds })
    }

    /// The binary that `--against` names.
    pub fn theirs(&self) -> &Path {
        &self.theirs
    }

    /// Measures both: ours, theirs, theirs, ours in each round, which makes two pairs.
    pub fn measure<T>(&self, mut measure: impl FnMut(&Path) -> Result<T>) -> Result<Vec<Pair<T>>> {
        let mut pairs = Vec::new();
        for round in 1..=self.rounds {
            let (ours, theirs) = (measure(&self.ours)?, measure(&self.theirs)?);
            pairs.push(Pair { ours, theirs });
            let (theirs, ours) = (measure(&self.theirs)?, measure(&self.ours)?);
            pairs.push(Pair { ours, theirs });
            println!("   round {round} of {}", self.rounds);
        }
        Ok(pairs)
    }

    /// The whole result, from the rows of its table.
    pub fn report(&self, rows: &str) -> String {
        format!(
            "Measured on {}; {} rounds in the order A B B A; medians, and of the ratios of neighbours \
             [least..greatest].\nours: {}\ntheirs: {}\n\n{HEAD}{rows}",
            markdown::machine(),
            self.rounds,
            self.ours.display(),
            self.theirs.display()
        )
    }
}

/// A row of the table: one figure of both, and the ratio of the two.
pub fn row<T>(what: &str, pairs: &[Pair<T>], digits: usize, figure: impl Fn(&T) -> f64) -> String {
    let ours = spread(pairs.iter().map(|pair| figure(&pair.ours)));
    let theirs = spread(pairs.iter().map(|pair| figure(&pair.theirs)));
    let ratio = spread(pairs.iter().filter_map(|pair| {
        let theirs = figure(&pair.theirs);
        (theirs > 0.0).then(|| figure(&pair.ours) / theirs)
    }));
    let median = |spread: Option<f64>| spread.map_or("–".to_owned(), |median| format!("{median:.digits$}"));
    format!(
        "| {what} | {} | {} | {} |\n",
        median(ours.map(|s| s.median)),
        median(theirs.map(|s| s.median)),
        ratio.map_or("–".to_owned(), |s| format!(
            "×{:.3} [{:.3}..{:.3}]",
            s.median, s.low, s.high
        ))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_compared_and_none_comes_first_always() {
        let sides = Sides {
            ours: "ours".into(),
            theirs: "theirs".into(),
            rounds: 2,
        };
        let mut order = Vec::new();
        // Each measurement takes longer than the one before; ours takes twice as long as theirs.
        let pairs = sides
            .measure(|binary| {
                order.push(binary.display().to_string());
                let drift = order.len() as f64;
                Ok(if binary == Path::new("ours") {
                    2.0 * drift
                } else {
                    drift
                })
            })
            .unwrap();
        let round = ["ours", "theirs", "theirs", "ours"];
        assert_eq!(order, [round, round].concat());
        let of: Vec<(f64, f64)> = pairs.iter().map(|pair| (pair.ours, pair.theirs)).collect();
        assert_eq!(of, [(2.0, 2.0), (8.0, 3.0), (10.0, 6.0), (16.0, 7.0)]);
        assert_eq!(
            row("time", &pairs, 1, |time| *time),
            "| time | 9.0 | 4.5 | ×1.976 [1.000..2.667] |\n"
        );
        let none: [Pair<f64>; 1] = [Pair {
            ours: 0.0,
            theirs: 0.0,
        }];
        assert_eq!(row("lost", &none, 0, |lost| *lost), "| lost | 0 | 0 | – |\n");
    }
}
