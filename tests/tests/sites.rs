//! Finds probe sites and variables in real binaries by decoding: every Go version, every build variant.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use gmpscope_tests::profile::Profile;
use gmpscope_tests::{Variant, environment, toolchain};
use object::{Object, ObjectSymbol};
use tracer_ebpf::full::What;
use tracer_ebpf::gp_in;
use tracer_user::binary::GoBinary;
use tracer_user::binary::layout::{self, Layout};
use tracer_user::binary::{Arch, Code, Globals, globals};
use tracer_user::plan::{Emulation, Origin, Site, SiteKind, full, sites};

/// Build variants that are only examined, not run.
fn variants(minor: u32) -> Vec<Variant> {
    let mut variants = vec![Variant::Plain, Variant::Stripped, Variant::Pie, Variant::Arm64];
    if environment::full() {
        variants.extend([
            Variant::PieStripped,
            Variant::Cgo,
            Variant::CgoPie,
            Variant::Arm64PieStripped,
        ]);
    }
    let profiles = match (minor, environment::full()) {
        (..21, _) => &[],
        (_, true) => &Profile::ALL[..],
        // Where the runtime's own figure is taken, both forms of the code occur in this one.
        (26.., false) => &[Profile::Recorded][..],
        (_, false) => &[],
    };
    for profile in profiles {
        variants.extend(profile.variants(minor));
    }
    variants
}

/// The programs to build in these variants. With a profile only the runtime matters, and all of the program is
/// recompiled for it.
fn program(variant: Variant) -> &'static str {
    match variant.profile() {
        Some(_) => "goroutine",
        None => "mixed",
    }
}

/// A binary to examine.
struct Subject<'b> {
    variant: Variant,
    /// Its name in failures.
    what: &'b str,
    binary: &'b GoBinary<'b>,
    /// Its layout, from the table.
    layout: &'b Layout,
    bytes: &'b [u8],
}

fn minor(binary: &GoBinary<'_>) -> u32 {
    binary.facts().version.minor
}

/// Calls `check` with every binary.
fn each(mut check: impl FnMut(Subject<'_>) -> Result<()>) -> Result<()> {
    for toolchain in toolchain::selection()? {
        for variant in variants(toolchain.minor()) {
            let path = variant.build(&toolchain, program(variant))?;
            let what = format!("Go {}, {}", toolchain.version(), variant.name());
            let bytes = std::fs::read(&path)?;
            let binary = GoBinary::parse(&bytes, &what)?;
            let facts = binary.facts();
            let (layout, _) = layout::find(&facts.version, facts.arch, &facts.build_tags())?;
            let subject = Subject {
                variant,
                what: &what,
                binary: &binary,
                layout: &layout,
                bytes: &bytes,
            };
            check(subject).with_context(|| what.clone())?;
        }
    }
    Ok(())
}

fn arm64_pie(variant: Variant) -> bool {
    variant == Variant::Arm64PieStripped
}

fn pgo(variant: Variant) -> bool {
    variant.profile().is_some()
}

fn of<'s>(sites: &'s [Site], function: &str) -> Vec<&'s Site> {
    sites.iter().filter(|s| s.function == function).collect()
}

#[test]
fn exact_finds_every_way_into_and_out_of_runnable() -> Result<()> {
    let mut inlined = 0;
    each(
        |Subject {
             variant,
             what,
             binary,
             layout,
             ..
         }| {
            let found =
                sites::exact(binary, Some(layout), false).map_err(|tried| anyhow::anyhow!("{tried:#?}"))?;
            for site in &found {
                sites::verify(binary, site).map_err(|e| anyhow::anyhow!("{e:?}"))?;
                assert_eq!(site.emulation, Emulation::Emulated, "{what}: {site:?}");
            }
            let places: BTreeSet<u64> = found.iter().map(|s| s.file_offset).collect();
            assert_eq!(places.len(), found.len(), "{what}: a place is there twice");
            let origins: BTreeSet<&str> = found.iter().filter_map(|s| s.origin).map(Origin::name).collect();
            let all = ["created", "netpoll", "syscall", "unblocked", "yielded"];
            assert_eq!(origins.into_iter().collect::<Vec<_>>(), all, "{what}");
            let execute = of(&found, "runtime.execute");
            assert_eq!(execute.len(), 1, "{what}: {execute:?}");
            assert_eq!(execute[0].origin, None);
            if pgo(variant) {
                // The profile decides into which functions, and not all of them touch Runnable.
                inlined += found.iter().filter(|s| s.kind != SiteKind::StatusCall).count();
                assert!((14..=26).contains(&found.len()), "{what}: {} sites", found.len());
            } else {
                let is_whole =
                    |site: &&Site| ["runtime.ready", "runtime.execute"].contains(&site.function.raw());
                let (whole, others): (Vec<&Site>, Vec<&Site>) = found.iter().partition(is_whole);
                assert!(others.iter().all(|s| s.kind == SiteKind::StatusCall), "{what}");
                // The stack check, before anything else is done.
                let is_entry = |s: &&Site| s.kind == SiteKind::StatusEntry && (1..=16).contains(&s.offset);
                assert!(whole.iter().all(is_entry), "{what}: {whole:?}");
                assert!((16..=19).contains(&found.len()), "{what}: {} sites", found.len());
                // The trace reader, an idle GC worker twice, the poller twice.
                assert_eq!(of(&found, "runtime.findRunnable").len(), 5, "{what}");
                let polled = of(&found, "runtime.findRunnable");
                let polled = polled.iter().filter(|s| s.origin == Some(Origin::Netpoll));
                assert_eq!(polled.count(), 2, "{what}");
                for name in [
                    "runtime.ready",
                    "runtime.newproc1",
                    "runtime.goschedImpl",
                    "runtime.goyield_m",
                ] {
                    assert_eq!(of(&found, name).len(), 1, "{what}: {name}");
                }
            }
            Ok(())
        },
    )?;
    // PGO builds are made in the full run alone.
    assert!(
        !environment::full() || inlined > 0,
        "no profile inlined any of these"
    );
    Ok(())
}

/// The end of a pause as the runtime counts it, the thread that a goroutine is locked to, the end of a GC assist; a
/// profile may have inlined what is called there.
#[test]
fn full_finds_what_no_change_of_a_goroutine_shows() -> Result<()> {
    each(
        |Subject {
             variant,
             what,
             binary,
             layout,
             ..
         }| {
            let found = match full::full(binary, Some(layout), minor(binary), false) {
                Ok(found) => found,
                // A profile may hide a change of status: then the mode is refused.
                Err(_) if pgo(variant) => return Ok(()),
                Err(tried) => anyhow::bail!("{tried:#?}"),
            };
            for (wanted, function) in [
                (What::WorldStarted, "runtime.startTheWorldWithSema"),
                (What::GoroutineLocked, "runtime.startlockedm"),
            ] {
                let of_it = found.sites.iter().filter(|site| site.what == Some(wanted));
                let of_it: Vec<&Site> = of_it.collect();
                for site in &of_it {
                    sites::verify(binary, site).map_err(|e| anyhow::anyhow!("{e:?}"))?;
                    assert_eq!(site.emulation, Emulation::Emulated, "{what}: {site:?}");
                    assert_eq!(site.function, function, "{what}");
                }
                assert!(of_it.len() == 1 || pgo(variant), "{what}: {of_it:?}");
            }
            let sees_assists = minor(binary) >= 21;
            assert!(found.sees_assists() == sees_assists || pgo(variant), "{what}");
            for site in of(&found.sites, "runtime.gcAssistAlloc1") {
                sites::verify(binary, site).map_err(|e| anyhow::anyhow!("{e:?}"))?;
                assert_eq!(site.emulation, Emulation::Emulated, "{what}: {site:?}");
            }
            Ok(())
        },
    )
}

#[test]
fn sampled_finds_the_end_of_a_tracked_wait() -> Result<()> {
    let mut forms = BTreeSet::new();
    each(
        |Subject {
             variant,
             what,
             binary,
             layout,
             ..
         }| {
            let found = sites::sampled(binary, Some(layout), minor(binary), false)
                .map_err(|tried| anyhow::anyhow!("{tried:#?}"))?;
            // With any profile: from Go 1.26 on the runtime's own figure is taken.
            let recorded = minor(binary) >= 26;
            assert!(found.attempts.is_empty(), "{what}: {:?}", found.attempts);
            assert_eq!(found.stamp, Some(layout.g.tracking_stamp), "{what}");
            for site in &found.sites {
                sites::verify(binary, site).map_err(|e| anyhow::anyhow!("{e:?}"))?;
                assert_eq!(site.emulation, Emulation::Emulated, "{what}: {site:?}");
                let (kind, spilled) = match recorded {
                    // Its register is needed for the call's arguments on arm64.
                    true => (SiteKind::WaitRecorded, gp_in::STACK_SLOT),
                    false => (SiteKind::TrackedWaitEnds, 30),
                };
                assert_eq!(site.kind, kind, "{what}");
                if recorded {
                    check_recorded(binary, site, what)?;
                    forms.insert(is_call(site));
                }
                assert!(
                    site.gp_in < 31 || site.gp_in == spilled,
                    "{what}: the goroutine is not found: {site:?}"
                );
            }
            assert_eq!(of(&found.sites, "runtime.casgstatus").len(), 1, "{what}");
            let exact =
                sites::exact(binary, Some(layout), false).map_err(|tried| anyhow::anyhow!("{tried:#?}"))?;
            let inlined = exact.iter().any(|s| s.kind == SiteKind::SwappedToRunning);
            assert!(pgo(variant) || !inlined, "{what}");
            assert_eq!(
                of(&found.sites, "runtime.execute").len(),
                usize::from(inlined),
                "{what}"
            );
            Ok(())
        },
    )?;
    assert_eq!(
        forms.len(),
        2,
        "the histogram is called, or inlined, in all of them"
    );
    Ok(())
}

fn is_call(site: &Site) -> bool {
    site.instruction.starts_with("call") || site.instruction.starts_with("bl ")
}

/// Checks a site at which the runtime records a wait: the call of `record`, or, where that is inlined, its first
/// branch.
fn check_recorded(binary: &GoBinary<'_>, site: &Site, what: &str) -> Result<()> {
    let record = "runtime.(*timeHistogram).record";
    let function = binary
        .functions(site.function.raw())
        .into_iter()
        .find(|f| f.start == site.address - site.offset)
        .context("the site is in no function")?;
    let within = binary.inlined_into(&function);
    let is_inlined = within.iter().any(|(name, _)| name == record);
    assert_eq!(is_call(site), !is_inlined, "{what}: {site:?}");
    let innermost = binary.inlined_at(&function, site.address).into_iter().next();
    assert_eq!(
        innermost.as_deref() == Some(record),
        is_inlined,
        "{what}: {site:?}"
    );
    if is_inlined {
        assert!(site.gp_in < 31, "{what}: {site:?}");
    } else {
        let second_argument = if binary.arch() == Arch::Amd64 { 3 } else { 1 };
        assert_eq!(site.statuses_in.0, second_argument, "{what}: {site:?}");
    }
    // Never the stack pointer nor g.
    assert!(
        ![4, 14, 28, 31].contains(&site.statuses_in.0) || binary.arch() == Arch::Arm64,
        "{what}: {site:?}"
    );
    Ok(())
}

#[test]
fn stripping_moves_no_site() -> Result<()> {
    for toolchain in toolchain::selection()? {
        let places = |variant: Variant| -> Result<Vec<(String, u64, u8)>> {
            let bytes = std::fs::read(variant.build(&toolchain, "mixed")?)?;
            let binary = GoBinary::parse(&bytes, &variant.name())?;
            let mut found = sites::exact(&binary, None, false).map_err(|e| anyhow::anyhow!("{e:?}"))?;
            found.extend(
                sites::sampled(&binary, None, minor(&binary), false)
                    .map_err(|e| anyhow::anyhow!("{e:?}"))?
                    .sites,
            );
            Ok(found
                .into_iter()
                .map(|s| (s.function.into_raw(), s.offset, s.gp_in))
                .collect())
        };
        for (with, without) in [
            (Variant::Plain, Variant::Stripped),
            (Variant::Pie, Variant::PieStripped),
        ] {
            assert_eq!(
                places(with)?,
                places(without)?,
                "Go {}, {}",
                toolchain.version(),
                without.name()
            );
        }
    }
    Ok(())
}

#[test]
fn no_layout_is_needed_to_find_sites() -> Result<()> {
    each(
        |Subject {
             what, binary, layout, ..
         }| {
            let with = (
                sites::exact(binary, Some(layout), false),
                sites::sampled(binary, Some(layout), minor(binary), false),
            );
            let without = (
                sites::exact(binary, None, false),
                sites::sampled(binary, None, minor(binary), false),
            );
            assert_eq!(with, without, "{what}");
            Ok(())
        },
    )
}

/// A layout that does not belong to the binary is detected.
#[test]
fn a_wrong_layout_is_refused() -> Result<()> {
    each(
        |Subject {
             what, binary, layout, ..
         }| {
            let mut wrong = layout.clone();
            wrong.g.tracking_stamp += 8;
            wrong.g.runnable_time += 8;
            // What remains is to probe (*timeHistogram).record, which reads no field.
            match sites::sampled(binary, Some(&wrong), minor(binary), false) {
                Ok(found) => {
                    assert!(
                        found.sites.iter().all(|s| s.kind == SiteKind::HistogramRecord),
                        "{what}"
                    );
                    assert!(
                        found.attempts.iter().any(|a| a.outcome.contains("trackingStamp")),
                        "{what}"
                    );
                }
                Err(tried) => assert!(
                    tried.iter().any(|a| a.outcome.contains("trackingStamp")),
                    "{what}"
                ),
            }
            Ok(())
        },
    )
}

#[test]
fn variables_are_where_the_symbol_table_says() -> Result<()> {
    let mut compared = 0;
    each(
        |Subject {
             variant,
             what,
             binary,
             layout,
             bytes,
             ..
         }| {
            let found = globals::find(binary, Some(layout));
            let Globals {
                sched,
                time_to_run,
                allp,
                allgs,
                allm,
                gomaxprocs,
            } = found;
            let elf = object::File::parse(bytes)?;
            let symbol = |name: &str| {
                elf.symbol_by_name(&format!("runtime.{name}"))
                    .map(|s| s.address())
            };
            for (name, found) in [
                ("sched", sched),
                ("allp", allp),
                ("allgs", allgs),
                ("allm", allm),
                ("gomaxprocs", gomaxprocs),
            ] {
                // What mcommoninit of 1.19 for arm64 shows in a PIE does not prove where allm is: absent, not guessed.
                let beyond_us = name == "allm" && what.starts_with("Go 1.19.") && arm64_pie(variant);
                assert!(found.is_some() || beyond_us, "{what}: {name} was not found");
                if found.is_none() {
                    continue;
                }
                if let Some(right) = symbol(name) {
                    assert_eq!(found, Some(right), "{what}: {name}");
                    compared += 1;
                }
            }
            let at = |sched| sched + u64::from(layout.sched.time_to_run);
            assert_eq!(time_to_run, sched.map(at), "{what}: timeToRun");
            Ok(())
        },
    )?;
    assert!(compared > 0, "no binary has a symbol table");
    Ok(())
}
