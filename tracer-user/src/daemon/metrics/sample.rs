//! The value of one series at one moment.

use std::borrow::Cow;

use crate::latency::Histogram;

/// The labels of a family; those of the process come before them.
pub type Labels<'a> = Vec<(&'static str, Cow<'a, str>)>;

/// One series, with its value.
#[derive(Debug)]
pub struct Sample<'a> {
    /// Its labels.
    pub labels: Labels<'a>,
    /// Its value.
    pub value: Value<'a>,
}

/// The value of a series.
#[derive(Debug)]
pub enum Value<'a> {
    /// A whole number.
    Count(u64),
    /// A number.
    Number(f64),
    /// A histogram of durations.
    Waits(&'a Histogram),
}

/// The series of a family.
pub type Samples<'a> = Vec<Sample<'a>>;

/// Adds series to a family.
pub trait Put<'a> {
    /// Adds a series with these labels.
    fn put(&mut self, labels: &[(&'static str, &'a str)], value: Value<'a>);
}

impl<'a> Put<'a> for Samples<'a> {
    fn put(&mut self, labels: &[(&'static str, &'a str)], value: Value<'a>) {
        let labels = labels
            .iter()
            .map(|(name, text)| (*name, Cow::Borrowed(*text)))
            .collect();
        self.push(Sample { labels, value });
    }
}
