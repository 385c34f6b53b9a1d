//! Negotiates the format of the metrics, by the `Accept` header.

use std::iter::Peekable;

/// How series are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, version 0.0.4.
    Text,
    /// OpenMetrics text, version 1.0.0.
    OpenMetrics,
    /// `io.prometheus.client.MetricFamily`, each with its length before it; with native histograms.
    Protobuf,
}

/// A media range of an `Accept` header.
struct Range {
    main: String,
    sub: String,
    parameters: Vec<(String, String)>,
    /// In thousandths.
    quality: u16,
}

impl Format {
    /// Every format. The first one wins if a client prefers several equally.
    pub const ALL: [Self; 3] = [Self::Text, Self::OpenMetrics, Self::Protobuf];

    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// The format that the values of `Accept` prefer: the one of the highest quality, and of equals the one that is
    /// named first. Text if they name none that we have, as in other exporters: people can at least read it.
    pub fn negotiate<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let ranges: Vec<Range> = accept.into_iter().flat_map(ranges).collect();
        let mut best: Option<(u16, usize, Self)> = None;
        for format in Self::ALL {
            // The most specific range that fits decides (RFC 9110, 12.5.1).
            let fitting = ranges.iter().enumerate();
            let fitting =
                fitting.filter_map(|(place, range)| Some((format.fits(range)?, place, range.quality)));
            let decides = fitting.max_by_key(|(specific, place, _)| (*specific, usize::MAX - place));
            let Some((_, place, quality)) = decides else {
                continue;
            };
            let better =
                best.is_none_or(|(most, first, _)| quality > most || (quality == most && place < first));
            if quality > 0 && better {
                best = Some((quality, place, format));
            }
        }
        best.map_or(Self::Text, |(_, _, format)| format)
    }

    /// How specific a range that includes this format is; `None` if it does not include it.
    fn fits(self, range: &Range) -> Option<usize> {
        let (main, sub, parameters): (_, _, &[(&str, &str)]) = match self {
            Self::Text => ("text", "plain", &[("version", "0.0.4"), ("charset", "utf-8")]),
            Self::OpenMetrics => (
                "application",
                "openmetrics-text",
                &[("version", "1.0.0"), ("charset", "utf-8")],
            ),
            Self::Protobuf => (
                "application",
                "vnd.google.protobuf",
                &[
                    ("proto", "io.prometheus.client.metricfamily"),
                    ("encoding", "delimited"),
                ],
            ),
        };
        match (range.main.as_str(), range.sub.as_str()) {
            ("*", "*") => Some(0),
            (m, "*") if m == main => Some(1),
            (m, s) if m == main && s == sub => {
                for (name, value) in &range.parameters {
                    // Prometheus 3 says how names are to be escaped; ours need no escaping.
                    let ours = parameters.iter().find(|(key, _)| key == name);
                    if ours.is_some_and(|(_, ours)| ours != value) {
                        return None;
                    }
                }
                Some(2 + range.parameters.len())
            }
            _ => None,
        }
    }
}

/// The ranges of one header value. Malformed ones are ignored.
fn ranges(value: &str) -> impl Iterator<Item = Range> + '_ {
    split(value, ',').filter_map(|range| {
        let mut parts = split(range, ';');
        let (main, sub) = parts.next()?.trim().split_once('/')?;
        let mut quality = 1000;
        let mut parameters = Vec::new();
        for part in parts {
            let Some((name, value)) = part.split_once('=') else {
                continue;
            };
            let name = name.trim().to_ascii_lowercase();
            let value = value.trim().trim_matches('"');
            if name == "q" {
                quality = thousandths(value)?;
            } else {
                parameters.push((name, value.to_ascii_lowercase()));
            }
        }
        Some(Range {
            main: main.trim().to_ascii_lowercase(),
            sub: sub.trim().to_ascii_lowercase(),
            parameters,
            quality,
        })
    })
}

/// Parses a quality, `0.75` as 750.
fn thousandths(quality: &str) -> Option<u16> {
    let number: f64 = quality.parse().ok()?;
    (0.0..=1.0)
        .contains(&number)
        .then(|| (number * 1000.0).round() as u16)
}

/// Splits `text` at each `separator` that is not in quotation marks.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut rest: Option<&str> = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = outside_quotes(&mut text.char_indices().peekable(), separator);
        match end {
            Some(end) => {
                rest = text.get(end + separator.len_utf8()..);
                text.get(..end)
            }
            None => rest.take(),
        }
    })
}

fn outside_quotes(chars: &mut Peekable<std::str::CharIndices>, separator: char) -> Option<usize> {
    let mut quoted = false;
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' if quoted => {
                chars.next();
            }
            c if c == separator && !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What Prometheus 2.42 sends, without and with `--enable-feature=native-histograms`, and what Prometheus 3 sends
    /// (scrape/scrape.go; config.go).
    const PROMETHEUS_2_42: &str = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                                   version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    const PROMETHEUS_2_42_NATIVE: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                                          encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,\
                                          application/openmetrics-text;version=0.0.1;q=0.75,\
                                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    const PROMETHEUS_3: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                                application/openmetrics-text;version=0.0.1;q=0.5,\
                                text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,\
                                */*;q=0.2";

    fn of(accept: &str) -> Format {
        Format::negotiate([accept])
    }

    #[test]
    fn prometheus_gets_what_it_prefers() {
        assert_eq!(of(PROMETHEUS_2_42), Format::OpenMetrics);
        assert_eq!(of(PROMETHEUS_2_42_NATIVE), Format::Protobuf);
        assert_eq!(of(PROMETHEUS_3), Format::OpenMetrics);
    }

    #[test]
    fn quality_and_precision_decide() {
        for (accept, format) in [
            ("*/*", Format::Text),
            ("", Format::Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Text),
            ("text/*", Format::Text),
            ("application/*", Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            (
                "APPLICATION/OpenMetrics-Text; Version=\"1.0.0\"",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;version=0.0.1", Format::Text),
            ("text/plain;q=0,*/*", Format::OpenMetrics),
            (
                "text/plain;q=0.2, application/openmetrics-text;q=0.3",
                Format::OpenMetrics,
            ),
            (
                "text/plain;q=0.3, application/openmetrics-text;q=0.3",
                Format::Text,
            ),
            (
                "application/openmetrics-text;q=0.3, text/plain;q=0.3",
                Format::OpenMetrics,
            ),
            ("application/vnd.google.protobuf;encoding=text", Format::Text),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=compact-text",
                Format::Text,
            ),
            ("text/plain;x=\"a,application/vnd.google.protobuf\"", Format::Text),
            ("application/openmetrics-text;q=2, text/plain;q=0.1", Format::Text),
            ("application/openmetrics-text;q=nan", Format::Text),
        ] {
            assert_eq!(of(accept), format, "{accept}");
        }
        assert_eq!(
            Format::negotiate(["text/plain;q=0.1", "application/openmetrics-text;q=0.2"]),
            Format::OpenMetrics,
            "of two headers"
        );
    }

    #[test]
    fn what_is_said_to_be_sent_is_accepted() {
        for format in Format::ALL {
            assert_eq!(of(format.content_type()), format);
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_is_too_much(accept: String) {
            of(&accept);
        }

        #[test]
        fn noise_that_looks_like_a_header_is_survived(accept in "[a-z*/;,=q0-9.\"\\\\ ]{0,200}") {
            of(&accept);
        }

        /// Whatever else is asked for less, and in which order, the one with the highest quality is given.
        #[test]
        fn the_highest_quality_wins(
            order in Just(vec![0usize, 1, 2]).prop_shuffle(),
            qualities in Just(vec![900u16, 500, 100]).prop_shuffle(),
            noise in "[a-z]{1,8}/[a-z]{1,8};q=0\\.[0-9]{1,3}",
        ) {
            let ranges = order.iter().map(|&i| {
                let kind = Format::ALL[i].content_type();
                format!("{kind}; q=0.{}", qualities[i])
            });
            let accept: Vec<String> = ranges.chain([noise]).collect();
            let best = (0..3).max_by_key(|&i| qualities[i]).unwrap();
            prop_assert_eq!(of(&accept.join(",")), Format::ALL[best]);
        }
    }
}
