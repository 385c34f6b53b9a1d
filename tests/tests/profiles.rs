//! The profiles that programs are built with: each makes the compiler do what its shape says, and has nothing of a
//! machine.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use gmpscope_tests::profile::{INLINED, Profile};
use gmpscope_tests::{Variant, environment, toolchain};
use tracer_user::binary::{Code, GoBinary};

/// The functions of [`INLINED`] that the compiler has inlined, by the function of the program that contains them.
fn inlined(variant: Variant, toolchain: &toolchain::Toolchain) -> Result<BTreeMap<String, Vec<String>>> {
    let bytes = std::fs::read(variant.build(toolchain, "goroutine")?)?;
    let binary = GoBinary::parse(&bytes, &variant.name())?;
    let mut all = BTreeMap::new();
    for function in binary.runtime_functions() {
        let within = binary.inlined_into(function);
        let within: Vec<String> = within
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| INLINED.contains(&name.as_str()))
            .collect();
        if !within.is_empty() {
            all.insert(function.name.raw().to_owned(), within);
        }
    }
    Ok(all)
}

#[test]
fn a_profile_inlines_what_its_shape_says() -> Result<()> {
    let mut wrong = Vec::new();
    let mut compared = 0;
    for toolchain in toolchain::selection()?.iter().filter(|t| t.minor() >= 21).rev() {
        // In the fast run only the one that sites.rs also builds.
        let fast = !environment::full();
        if fast && *toolchain != toolchain::newest()? {
            continue;
        }
        for profile in Profile::ALL {
            if fast && profile != Profile::Recorded {
                continue;
            }
            let expected = profile.shape()?.inlined.remove(&toolchain.minor());
            for variant in profile.variants(toolchain.minor()) {
                let found = inlined(variant, toolchain)?;
                compared += 1;
                if Some(&found) != expected.as_ref() {
                    wrong.push(format!(
                        "Go {}, {}: {}",
                        toolchain.version(),
                        variant.name(),
                        serde_json::to_string(&found)?
                    ));
                }
            }
        }
    }
    ensure!(compared > 0, "no toolchain takes profiles");
    ensure!(
        wrong.is_empty(),
        "tests/profiles/shapes.json says otherwise:\n{}",
        wrong.join("\n")
    );
    Ok(())
}

/// A protobuf field.
enum Field<'p> {
    Number,
    Bytes(&'p [u8]),
}

/// Removes the varint at the front of a message.
fn varint(message: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first().context("a number has no end")?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a number is too long")
}

/// The fields of a message by their numbers.
fn fields(mut message: &[u8]) -> Result<Vec<(u64, Field<'_>)>> {
    let mut all = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let field = match key & 7 {
            0 => {
                varint(&mut message)?;
                Field::Number
            }
            2 => {
                let length = usize::try_from(varint(&mut message)?)?;
                let bytes = message
                    .get(..length)
                    .context("a field is longer than its message")?;
                message = message.get(length..).unwrap_or_default();
                Field::Bytes(bytes)
            }
            kind => bail!("a field of kind {kind}"),
        };
        all.push((key >> 3, field));
    }
    Ok(all)
}

/// Checks that it holds nothing of the machine that it was made on: no path, build id, comment or time.
#[test]
fn profiles_hold_names_of_the_runtimes_functions_and_nothing_else() -> Result<()> {
    for profile in Profile::ALL {
        let shape = profile.shape()?;
        ensure!(!shape.why.is_empty(), "{}: what is it for?", profile.name());
        let mut known: BTreeSet<&str> = BTreeSet::from(["", "samples", "count"]);
        for (caller, callees) in &shape.hot {
            known.insert(caller);
            known.extend(callees.iter().map(String::as_str));
        }
        assert!(
            known
                .iter()
                .all(|name| name.starts_with("runtime.") || name.len() < 8)
        );
        let minors: Vec<u32> = shape.inlined.keys().copied().collect();
        ensure!(!minors.is_empty(), "{}: what does it inline?", profile.name());
        for minor in minors {
            let file = profile.file(minor);
            let bytes = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
            let what = file.display();
            ensure!(bytes.len() < 4096, "{what} has {} bytes", bytes.len());
            for (number, field) in fields(&bytes).with_context(|| format!("{what}"))? {
                match (number, field) {
                    // Kinds of samples, samples, locations, functions: numbers alone.
                    (1 | 2 | 4 | 5, Field::Bytes(_)) => {}
                    (6, Field::Bytes(string)) => {
                        let string = std::str::from_utf8(string)?;
                        ensure!(known.contains(string), "{what} holds {string:?}");
                    }
                    (number, _) => bail!("{what} has field {number}"),
                }
            }
        }
    }
    Ok(())
}
