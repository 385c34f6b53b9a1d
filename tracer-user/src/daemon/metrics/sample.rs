//! One series at one moment.

use std::borrow::Cow;

use crate::latency::Histogram;

/// Labels that are a family's own; those of the process come before.
pub type Labels<'a> = Vec<(&'static str, Cow<'a, str>)>;

/// One series.
#[derive(Debug)]
pub struct Sample<'a> {
    /// Its labels.
    pub labels: Labels<'a>,
    /// What it says.
    pub value: Value<'a>,
}

/// What a series says.
#[derive(Debug)]
pub enum Value<'a> {
    /// A whole number.
    Count(u64),
    /// A number.
    Number(f64),
    /// How long things took.
    Waits(&'a Histogram),
}

/// The series of a family.
pub type Samples<'a> = Vec<Sample<'a>>;

/// Adds to a family's series.
pub trait Put<'a> {
    /// A series with these labels.
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
