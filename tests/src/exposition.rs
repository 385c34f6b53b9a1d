//! Prometheus' text format as a scraper reads it (prometheus.io/docs/instrumenting/exposition_formats), and the
//! histograms in it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use crate::histogram::RuntimeHistogram;

/// One scrape.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    samples: Vec<Sample>,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the metric.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// A classic histogram: how many values were at most this many seconds, ascending; the last bound is infinite.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cumulative(pub Vec<(f64, f64)>);

impl Exposition {
    /// Parses a page.
    pub fn parse(text: &str) -> Result<Self> {
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| sample(line).with_context(|| format!("not a sample: {line}")))
            .collect::<Result<_>>()?;
        Ok(Self { samples })
    }

    /// All samples.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Samples of this name that have all these labels.
    pub fn find<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        self.samples
            .iter()
            .filter(move |sample| sample.name == name && sample.has(labels))
    }

    /// The value of the only sample of this name with all these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let found: Vec<&Sample> = self.find(name, labels).collect();
        match found.as_slice() {
            [one] => Ok(one.value),
            [] => bail!(
                "there is no {name} with {labels:?}; of that name there are {:?}",
                self.find(name, &[])
                    .map(|sample| &sample.labels)
                    .collect::<Vec<_>>()
            ),
            more => bail!("{} of {name} with {labels:?}", more.len()),
        }
    }

    /// The sum of all samples of this name with these labels; 0 if there are none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).map(|sample| sample.value).sum()
    }

    /// The sum of a histogram over all series with these labels.
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Result<Cumulative> {
        let mut all: Vec<(f64, f64)> = Vec::new();
        for sample in self.find(&format!("{name}_bucket"), labels) {
            let le = sample.labels.get("le").context("a bucket without le")?;
            let le: f64 = number(le)?;
            match all.iter_mut().find(|(bound, _)| *bound == le) {
                Some((_, n)) => *n += sample.value,
                None => all.push((le, sample.value)),
            }
        }
        ensure!(!all.is_empty(), "there is no histogram {name} with {labels:?}");
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        ensure!(
            all.is_sorted_by(|a, b| a.1 <= b.1),
            "{name}: buckets are not cumulative: {all:?}"
        );
        ensure!(
            all.last().is_some_and(|(le, _)| le.is_infinite()),
            "{name}: no bucket +Inf"
        );
        Ok(Cumulative(all))
    }
}

impl Sample {
    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels
            .iter()
            .all(|(name, value)| self.labels.get(*name).is_some_and(|own| own == value))
    }
}

impl Cumulative {
    /// The number of values.
    pub fn count(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, n)| *n)
    }

    /// Returns what was added since an earlier scrape.
    pub fn since(&self, earlier: &Self) -> Result<Self> {
        let before = |le: f64| {
            // A bound that was not there yet had as many below it as the next lower one.
            let lower = earlier.0.iter().take_while(|(bound, _)| *bound <= le);
            lower.last().map_or(0.0, |(_, n)| *n)
        };
        let grown: Vec<(f64, f64)> = self.0.iter().map(|(le, n)| (*le, n - before(*le))).collect();
        ensure!(
            grown.iter().all(|(_, n)| *n >= 0.0),
            "a counter went down: {grown:?}"
        );
        Ok(Self(grown))
    }

    /// Bounds of the bucket that holds the quantile q, in seconds.
    pub fn quantile(&self, q: f64) -> Option<(f64, f64)> {
        let rank = (q * self.count()).ceil().max(1.0);
        let at = self.0.iter().position(|(_, n)| *n >= rank)?;
        let low = at
            .checked_sub(1)
            .and_then(|below| self.0.get(below))
            .map_or(0.0, |(le, _)| *le);
        Some((low, self.0.get(at)?.0))
    }

    /// Lists every difference from what the runtime itself counted. A bound that the runtime has too must have exactly
    /// its count; one inside a bucket of the runtime's must have a count between those of its neighbours.
    pub fn differences(&self, own: &RuntimeHistogram) -> Vec<String> {
        let mut wrong = Vec::new();
        for (le, n) in &self.0 {
            let bound = le * 1e9;
            let (mut least, mut most) = (0, 0);
            for ((low, high), count) in &own.buckets {
                let high = if *high < 0 { f64::INFINITY } else { *high as f64 };
                if (*low as f64) + 0.5 < bound {
                    most += count;
                }
                // A bucket of the runtime's ends before its bound, which is a whole number of nanoseconds.
                if high - 1.5 < bound || bound.is_infinite() {
                    least += count;
                }
            }
            if *n < least as f64 || *n > most.max(least) as f64 {
                wrong.push(format!("up to {le} s: {n}, the runtime has {least} to {most}"));
            }
        }
        if self.count() != own.count() as f64 {
            wrong.push(format!("count {}, the runtime has {}", self.count(), own.count()));
        }
        wrong
    }
}

fn sample(line: &str) -> Result<Sample> {
    let (name, labels, rest) = match line.find('{') {
        Some(open) => {
            let (labels, rest) = labels(&line[open + 1..])?;
            (&line[..open], labels, rest)
        }
        None => {
            let (name, rest) = line.split_once(' ').context("no value")?;
            (name, BTreeMap::new(), rest)
        }
    };
    let value = rest.split_whitespace().next().context("no value")?;
    Ok(Sample {
        name: name.to_owned(),
        labels,
        value: number(value)?,
    })
}

/// Splits `name="value",…}` from the rest.
fn labels(mut text: &str) -> Result<(BTreeMap<String, String>, &str)> {
    let mut all = BTreeMap::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Ok((all, rest));
        }
        let (name, rest) = text.split_once("=\"").context("a label without value")?;
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next().context("a label without end")? {
                (at, '"') => break at,
                (_, '\\') => match characters.next().context("a label without end")?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        ensure!(
            all.insert(name.to_owned(), value).is_none(),
            "the label {name} is there twice"
        );
        text = &rest[end + 1..];
    }
}

fn number(text: &str) -> Result<f64> {
    Ok(match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        _ => text.parse()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# TYPE waits_seconds histogram
waits_seconds_bucket{exe=\"/a b\\\"c\\\\\",le=\"6.4e-08\"} 2
waits_seconds_bucket{exe=\"/a b\\\"c\\\\\",le=\"1.28e-07\"} 5
waits_seconds_bucket{exe=\"/a b\\\"c\\\\\",le=\"+Inf\"} 6
waits_seconds_count{exe=\"/a b\\\"c\\\\\"} 6
up 1
";

    #[test]
    fn a_page_is_read() {
        let page = Exposition::parse(PAGE).unwrap();
        assert_eq!(page.value("up", &[]).unwrap(), 1.0);
        let labels = [("exe", "/a b\"c\\")];
        assert_eq!(page.value("waits_seconds_count", &labels).unwrap(), 6.0);
        let waits = page.histogram("waits_seconds", &labels).unwrap();
        assert_eq!(waits.count(), 6.0);
        assert_eq!(waits.quantile(0.5), Some((6.4e-8, 1.28e-7)));
        assert!(page.value("up", &[("a", "b")]).is_err());
        assert!(Exposition::parse("a{b=\"c} 1").is_err());
    }

    #[test]
    fn one_value_in_another_bucket_is_seen() {
        let page = Exposition::parse(PAGE).unwrap();
        let waits = page.histogram("waits_seconds", &[]).unwrap();
        let own = |v: &[(i64, i64, u64)]| RuntimeHistogram::from(v.to_vec());
        let same = own(&[(0, 64, 2), (64, 128, 3), (4096, -1, 1)]);
        assert_eq!(waits.differences(&same), Vec::<String>::new());
        let other = own(&[(0, 64, 3), (64, 128, 2), (4096, -1, 1)]);
        assert_eq!(waits.differences(&other).len(), 1);
        let fewer = own(&[(0, 64, 2), (64, 128, 3)]);
        assert_eq!(waits.differences(&fewer).len(), 2);
        // Half of the bucket lies below the bound: any share of it may.
        let across = own(&[(0, 64, 2), (64, 192, 4)]);
        assert_eq!(waits.differences(&across), Vec::<String>::new());
    }

    #[test]
    fn a_difference_of_scrapes_has_the_bounds_of_the_later() {
        let (inf, at) = (f64::INFINITY, |v: &[(f64, f64)]| Cumulative(v.to_vec()));
        let (before, after) = (
            at(&[(1.0, 2.0), (inf, 2.0)]),
            at(&[(1.0, 3.0), (2.0, 7.0), (inf, 8.0)]),
        );
        let grown = after.since(&before).unwrap();
        assert_eq!(grown, at(&[(1.0, 1.0), (2.0, 5.0), (inf, 6.0)]));
        assert!(before.since(&after).is_err());
    }
}
