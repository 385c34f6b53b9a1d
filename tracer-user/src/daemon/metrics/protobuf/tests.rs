use std::collections::BTreeMap;

use super::{
    super::{
        Format,
        tests::{everything, render},
    },
    *,
};

/// A field's content.
#[derive(Clone, Debug)]
enum Field {
    Varint(u64),
    Double(f64),
    Bytes(Vec<u8>),
}

/// Takes a number from the front.
fn take_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn take_delimited<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let length = take_varint(bytes) as usize;
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken
}

/// The fields of a message by their number.
fn fields(mut bytes: &[u8]) -> BTreeMap<u64, Vec<Field>> {
    let mut fields: BTreeMap<u64, Vec<Field>> = BTreeMap::new();
    let mut last = 0;
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes);
        assert!(key >> 3 >= last, "fields are in order");
        last = key >> 3;
        let field = match key & 7 {
            0 => Field::Varint(take_varint(&mut bytes)),
            1 => {
                let (number, rest) = bytes.split_at(8);
                bytes = rest;
                Field::Double(f64::from_le_bytes(number.try_into().unwrap()))
            }
            2 => Field::Bytes(take_delimited(&mut bytes).to_vec()),
            other => panic!("wire type {other}"),
        };
        fields.entry(last).or_default().push(field);
    }
    fields
}

type Fields = BTreeMap<u64, Vec<Field>>;

fn double(fields: &Fields, number: u64) -> f64 {
    match fields.get(&number).and_then(|all| all.first()) {
        None => 0.0,
        Some(Field::Double(value)) => *value,
        other => panic!("{other:?}"),
    }
}

fn uint(fields: &Fields, number: u64) -> u64 {
    match fields.get(&number).and_then(|all| all.first()) {
        None => 0,
        Some(Field::Varint(value)) => *value,
        other => panic!("{other:?}"),
    }
}

fn messages(of: &Fields, number: u64) -> Vec<Fields> {
    let all = of.get(&number).cloned().unwrap_or_default();
    all.iter().map(|field| fields(bytes(field))).collect()
}

fn string(fields: &Fields, number: u64) -> String {
    let field = fields.get(&number).and_then(|all| all.first());
    field.map_or_else(String::new, |field| {
        String::from_utf8(bytes(field).to_vec()).unwrap()
    })
}

fn bytes(field: &Field) -> &[u8] {
    match field {
        Field::Bytes(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// The families of a page.
fn families_of(page: &[u8]) -> Vec<Fields> {
    let mut rest = page;
    let mut families = Vec::new();
    while !rest.is_empty() {
        families.push(fields(take_delimited(&mut rest)));
    }
    families
}

/// A series as the text format writes it.
fn series(name: &str, labels: &[(String, String)]) -> String {
    let labels: Vec<String> = labels
        .iter()
        .map(|(name, value)| {
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            format!("{name}=\"{value}\"")
        })
        .collect();
    match labels.as_slice() {
        [] => name.to_owned(),
        some => format!("{name}{{{}}}", some.join(",")),
    }
}

/// Every number of a page by its series, as the text format would have it.
fn numbers(page: &[u8]) -> BTreeMap<String, f64> {
    let mut numbers = BTreeMap::new();
    for family in families_of(page) {
        let name = string(&family, 1);
        for metric in messages(&family, 4) {
            let mut labels: Vec<(String, String)> = messages(&metric, 1)
                .iter()
                .map(|label| (string(label, 1), string(label, 2)))
                .collect();
            for (value, of_kind) in [(2, 1), (3, 0)] {
                for message in messages(&metric, value) {
                    assert_eq!(uint(&family, 3), of_kind, "{name}");
                    numbers.insert(series(&name, &labels), double(&message, 1));
                }
            }
            for histogram in messages(&metric, 7) {
                assert_eq!(uint(&family, 3), 4, "{name}");
                numbers.insert(
                    series(&format!("{name}_count"), &labels),
                    uint(&histogram, 1) as f64,
                );
                numbers.insert(series(&format!("{name}_sum"), &labels), double(&histogram, 2));
                for bucket in messages(&histogram, 3) {
                    let bound = double(&bucket, 2);
                    let le = if bound.is_finite() {
                        format!("{bound:e}")
                    } else {
                        "+Inf".into()
                    };
                    labels.push(("le".into(), le));
                    numbers.insert(
                        series(&format!("{name}_bucket"), &labels),
                        uint(&bucket, 1) as f64,
                    );
                    labels.pop();
                }
            }
        }
    }
    numbers
}

/// A series of the text format with its bound as [`numbers`] writes it.
fn with_plain_bound(series: &str) -> String {
    let Some((before, rest)) = series.rsplit_once("le=\"") else {
        return series.to_owned();
    };
    let (bound, after) = rest.split_once('"').unwrap();
    match bound.parse::<f64>() {
        Ok(bound) if bound.is_finite() => format!("{before}le=\"{bound:e}\"{after}"),
        _ => series.to_owned(),
    }
}

#[test]
fn it_says_what_the_text_format_says() {
    let text = String::from_utf8(render(everything(), Format::Text).to_vec()).unwrap();
    let said: BTreeMap<String, f64> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (with_plain_bound(series), value.parse().unwrap())
        })
        .collect();
    assert!(said.len() > 500, "{}", said.len());
    let encoded: BTreeMap<String, f64> = numbers(&render(everything(), Format::Protobuf))
        .into_iter()
        .map(|(series, value)| (with_plain_bound(&series), value))
        .collect();
    assert_eq!(encoded, said);
}

#[test]
fn every_family_has_its_name_help_and_unit() {
    let page = render(everything(), Format::Protobuf);
    let encoded: Vec<(String, String, String)> = families_of(&page)
        .iter()
        .map(|family| (string(family, 1), string(family, 2), string(family, 5)))
        .collect();
    let table: Vec<(String, String, String)> = crate::daemon::metrics::families()
        .map(|family| {
            let unit = family.unit.unwrap_or_default();
            (family.name.to_owned(), family.help.to_owned(), unit.to_owned())
        })
        .collect();
    assert_eq!(encoded, table);
}

#[test]
fn native_buckets_are_those_of_the_histogram() {
    let waits = everything().targets[0].runtime_waits.clone().unwrap();
    let native = Native::of(&waits);
    let message = fields(&histogram(Bounds::Fine, &waits).0);
    assert_eq!(unzigzag(uint(&message, 5)), i64::from(native.schema));
    assert_eq!(double(&message, 6), ZERO_THRESHOLD);
    assert_eq!(uint(&message, 7), native.zero_count);
    let spans: Vec<(i32, u32)> = messages(&message, 12)
        .iter()
        .map(|span| (unzigzag(uint(span, 1)) as i32, uint(span, 2) as u32))
        .collect();
    assert_eq!(spans, native.spans);
    let mut packed = bytes(&message[&13][0]);
    let mut deltas = Vec::new();
    while !packed.is_empty() {
        deltas.push(unzigzag(take_varint(&mut packed)));
    }
    assert_eq!(deltas, native.deltas);
    assert!(deltas.iter().any(|delta| *delta < 0), "{deltas:?}");
}

/// With the examples of the protobuf documentation.
#[test]
fn numbers_are_encoded_as_protobuf_defines() {
    let encoded = |value: u64| {
        let mut bytes = Vec::new();
        varint(&mut bytes, value);
        bytes
    };
    assert_eq!(encoded(0), [0]);
    assert_eq!(encoded(150), [0x96, 0x01]);
    assert_eq!(encoded(u64::MAX), [&[0xff; 9][..], &[1]].concat());
    assert_eq!(
        [0, -1, 1, -2, i64::MAX, i64::MIN].map(zigzag),
        [0, 1, 2, 3, u64::MAX - 1, u64::MAX]
    );
    let mut message = Message::default();
    message.uint(1, 0);
    message.double(2, 0.0);
    message.string(3, "");
    assert!(message.0.is_empty(), "defaults are not written");
    message.string(2, "testing");
    assert_eq!(message.0, [&[0x12, 0x07][..], b"testing"].concat());
}
