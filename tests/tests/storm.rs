//! A short storm of attaching and detaching, and tests that a harmful one is noticed. The long one is
//! `cargo xtask bench storm`.

use anyhow::{Result, ensure};
use gmpscope_tests::machine;
use gmpscope_tests::storm::{Fault, Options, run};

fn storm(rounds: u32, fault: Option<Fault>) -> Result<Vec<String>> {
    let options = Options {
        rounds,
        seed: 14,
        fault,
        only: None,
    };
    Ok(run(options, |line| println!("{line}"))?.wrong)
}

#[test]
fn a_short_storm_harms_nobody() -> Result<()> {
    let _one = machine();
    let wrong = storm(16, None)?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn a_wrong_checksum_is_noticed() -> Result<()> {
    let _one = machine();
    let wrong = storm(4, Some(Fault::Checksum))?;
    ensure!(wrong.iter().any(|it| it.contains("has ended")), "{wrong:?}");
    Ok(())
}

#[test]
fn a_probe_that_stays_is_noticed() -> Result<()> {
    let _one = machine();
    let wrong = storm(3, Some(Fault::Probe))?;
    ensure!(
        wrong.iter().any(|it| it.contains("bytes of its text")),
        "{wrong:?}"
    );
    ensure!(wrong.iter().any(|it| it.contains("BPF programs")), "{wrong:?}");
    Ok(())
}
