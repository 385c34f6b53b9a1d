//! `cargo xtask bench fuzz`: runs the fuzz targets for as long as wanted.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::fuzz::{self, Purpose};
use crate::setup;

/// Fuzz the readers of programs and recordings.
#[derive(clap::Args)]
pub struct Args {
    /// How long in all: `90s`, `10m`, `8h`
    #[arg(long, default_value = "5m", value_parser = duration)]
    duration: Duration,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    setup::ensure(&fuzz::components())?;
    fuzz::build(Purpose::Bench)?;
    fuzz::make_seeds(&super::gmpscope()?)?;
    let targets = fuzz::run(Purpose::Bench, args.duration / fuzz::TARGETS.len() as u32)?;
    println!("\n{targets} targets ran, and none failed");
    Ok(())
}

fn duration(text: &str) -> Result<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => bail!("`{text}` is not a duration; write 90s, 10m or 8h"),
    };
    Ok(Duration::from_secs(
        number.parse::<u64>()?.saturating_mul(seconds),
    ))
}
