//! Runs the stories of docs/stories.md, and writes what clients see and what gmpscope prints, before and after what is done
//! about the trouble: `stories SECONDS FOLDER` writes `FOLDER/STORY.md` and `FOLDER/STORY-after.md`, with captures of
//! SECONDS.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use gmpscope_tests::run::gmpscope_with;
use gmpscope_tests::story::{Scene, Story};
use gmpscope_tests::{Variant, environment, island, toolchain};

/// How long the clients are asked what they see.
const SYMPTOM: Duration = Duration::from_secs(5);
/// Most lines of an output that are kept.
const LINES: usize = 64;
/// Where the program is, so that its path in the output is one that a reader knows.
const FOLDER: &str = "/usr/local/bin";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [seconds, folder] = words.as_slice() else {
        bail!("not `SECONDS FOLDER`: {words:?}");
    };
    let seconds: u64 = seconds.parse().context("SECONDS is not a number")?;
    let built = Variant::Stripped.build(&toolchain::newest()?, "shop")?;
    // It would be covered.
    let gmpscope = environment::gmpscope()?;
    ensure!(
        !gmpscope.starts_with(FOLDER),
        "{} must be outside of {FOLDER}",
        gmpscope.display()
    );
    island::cover(Path::new(FOLDER))?;
    let program = Path::new(FOLDER).join("shop");
    fs::copy(&built, &program).with_context(|| format!("copying {}", built.display()))?;
    for story in Story::ALL {
        let mut scene = Scene::begin(story, &program)?;
        let write = |name: &str, text: String| {
            let file = Path::new(folder).join(format!("{name}.md"));
            fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
        };
        write(story.name(), shown(&scene, seconds)?)?;
        scene.remedy()?;
        write(&format!("{}-after", story.name()), shown(&scene, seconds)?)?;
        println!("   {}: done", story.name());
    }
    Ok(())
}

/// What clients see, and what gmpscope prints.
fn shown(scene: &Scene, seconds: u64) -> Result<String> {
    let seen = scene.symptom(SYMPTOM)?;
    let duration = format!("{seconds}s");
    let (pid, output) = scene.under_load(|pid| {
        let pid = pid.to_string();
        let outcome = gmpscope_with(["attach", "-p", &pid, "--mode", "full", "--duration", &duration])?;
        ensure!(
            outcome.code() == 0,
            "gmpscope ended with {}: {}",
            outcome.code(),
            outcome.stderr
        );
        Ok((pid, outcome.json.unwrap_or_default()))
    })?;
    let mut text = format!(
        "The clients get {:.0} answers a second: half of them within {}, 99 % within {}.\n\n",
        seen.orders as f64 / SYMPTOM.as_secs_f64(),
        milliseconds(seen.p50_ns),
        milliseconds(seen.p99_ns)
    );
    writeln!(
        text,
        "```console\n# gmpscope attach -p {pid} --mode full --duration {duration}\n{}```",
        beginning(&output, LINES)
    )?;
    Ok(text)
}

fn milliseconds(ns: u64) -> String {
    format!("{:.1} ms", ns as f64 / 1e6)
}

/// The first lines of an output, at most so many, and the number of those that follow. It ends before an empty line, so
/// that no table is cut.
fn beginning(output: &str, most: usize) -> String {
    let lines: Vec<&str> = output.trim_end().lines().collect();
    let first: Vec<&str> = lines.iter().copied().take(most).collect();
    let kept = match first.len() == lines.len() {
        true => lines.len(),
        false => first.iter().rposition(|line| line.is_empty()).unwrap_or(most),
    };
    let mut text = String::new();
    for line in lines.iter().take(kept) {
        text.push_str(line);
        text.push('\n');
    }
    if kept < lines.len() {
        text += &format!("\n[... {} more lines]\n", lines.len() - kept);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::beginning;

    #[test]
    fn an_output_is_cut_between_its_parts() {
        assert_eq!(beginning("a\nb\n\nc\n", 4), "a\nb\n\nc\n");
        assert_eq!(beginning("a\nb\n\nc\nd\n", 4), "a\nb\n\n[... 3 more lines]\n");
        assert_eq!(beginning("a\nb\nc\n", 2), "a\nb\n\n[... 1 more lines]\n");
    }
}
