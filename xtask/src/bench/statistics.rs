//! Medians and spreads. No means: few rounds on a busy machine have outliers.

/// Median, least and greatest of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub low: f64,
    /// The greatest.
    pub high: f64,
}

/// The spread of some values; `None` if there are none.
pub fn spread(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (&low, &high) = (values.first()?, values.last()?);
    let middle = values.get((values.len() - 1) / 2..=values.len() / 2)?;
    let median = middle.iter().sum::<f64>() / middle.len() as f64;
    Some(Spread { median, low, high })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(
            spread([3.0, 1.0, 9.0]),
            Some(Spread {
                median: 3.0,
                low: 1.0,
                high: 9.0
            })
        );
        assert_eq!(
            spread([4.0, 1.0, 2.0, 9.0]),
            Some(Spread {
                median: 3.0,
                low: 1.0,
                high: 9.0
            })
        );
        assert_eq!(spread([]), None);
    }
}
