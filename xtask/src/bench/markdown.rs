//! Replaces generated parts of documents, and describes the machine that a table was measured on.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::arch::Arch;
use crate::paths;

/// Prints a table, and with `write` replaces the part `name` of a document by it.
pub fn publish(document: &str, name: &str, text: &str, write: bool) -> Result<()> {
    println!("\n{text}");
    match write {
        true => write_into(document, name, text),
        false => Ok(()),
    }
}

/// The makers of processors for which a document has a table each, by what /proc/cpuinfo has of theirs. The cores of 64-bit
/// Arm, whoever makes them, are taken together.
const MAKERS: [(&str, &str); 3] = [
    ("GenuineIntel", "Intel"),
    ("AuthenticAMD", "AMD"),
    ("CPU implementer", "Arm"),
];

/// As [`publish`], for a table of which the document has one for each maker of processors.
///
/// # Errors
/// With `write`, the document has no table for this machine's processor.
pub fn publish_for_maker(document: &str, name: &str, text: &str, write: bool) -> Result<()> {
    println!("\n{text}");
    if !write {
        return Ok(());
    }
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
    let maker = maker(&cpuinfo).with_context(|| {
        let makers = MAKERS.map(|(_, maker)| maker).join(", ");
        format!("{document} has a table for each of {makers}; this machine's processor is of none of them")
    })?;
    write_into(document, &format!("{name} on {maker}"), text)
}

/// The maker of the processor that /proc/cpuinfo describes.
fn maker(cpuinfo: &str) -> Option<&'static str> {
    let found = MAKERS.into_iter().find(|(mark, _)| cpuinfo.contains(mark));
    found.map(|(_, maker)| maker)
}

/// Replaces the part `name` of a document, which is named by its path in the repository, and says so.
pub fn write_into(document: &str, name: &str, text: &str) -> Result<()> {
    let document = paths::root().join(document);
    replace(&document, name, text)?;
    println!("written into {}", document.display());
    Ok(())
}

/// Replaces the text between `<!-- NAME: begin -->` and `<!-- NAME: end -->` in a document.
pub fn replace(document: &Path, name: &str, text: &str) -> Result<()> {
    let old = fs::read_to_string(document).with_context(|| format!("reading {}", document.display()))?;
    let new = replaced(&old, name, text).with_context(|| document.display().to_string())?;
    fs::write(document, new).with_context(|| format!("writing {}", document.display()))
}

fn replaced(old: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    let Some((before, rest)) = old.split_once(&begin) else {
        bail!("there is no line {begin}");
    };
    let Some((_, after)) = rest.split_once(&end) else {
        bail!("there is no line {end} after {begin}");
    };
    Ok(format!("{before}{begin}\n{}\n{end}{after}", text.trim()))
}

/// Describes this machine: kernel, processor and number of CPUs.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field("model name")
        .or_else(|| field("CPU part"))
        .unwrap_or_else(|| "unknown processor".into());
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let virtual_machine = if cpuinfo.contains(" hypervisor") {
        ", virtual machine"
    } else {
        ""
    };
    format!(
        "Linux {} {}, {model}, {cpus} CPUs{virtual_machine}",
        kernel.trim(),
        Arch::native().name()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_between_the_marks_only() {
        let old = "a\n<!-- t: begin -->\nold\n<!-- t: end -->\nb\n";
        assert_eq!(
            replaced(old, "t", "new\n").unwrap(),
            "a\n<!-- t: begin -->\nnew\n<!-- t: end -->\nb\n"
        );
        assert!(replaced(old, "other", "new").is_err());
    }

    #[test]
    fn makers_are_recognized_by_cpuinfo() {
        let amd = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\n";
        let arm = "processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n";
        assert_eq!(maker(amd), Some("AMD"));
        assert_eq!(maker(arm), Some("Arm"));
        assert_eq!(maker("processor\t: 0\nisa\t: rv64imafdc\n"), None);
    }

    #[test]
    fn the_page_has_a_table_for_each_maker() {
        let page = fs::read_to_string(paths::root().join("docs/overhead.md")).unwrap();
        for (_, maker) in MAKERS {
            for bench in ["overhead", "hit"] {
                let name = format!("cargo xtask bench {bench} on {maker}");
                assert!(replaced(&page, &name, "").is_ok(), "{name}");
            }
        }
    }
}
