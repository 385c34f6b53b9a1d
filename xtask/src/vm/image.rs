//! Makes the initramfs of a virtual machine, its only file system.

use std::fs::{self, File};
use std::io::{BufWriter, Cursor, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cpio::NewcBuilder;

use super::{Machine, Versions};
use crate::{go, paths};

/// The workload whose waits are compared.
const PROGRAM: &str = "mixed";
/// Its build variant. `Variant::build` of the tests crate looks for these two names.
const VARIANT: &str = "stripped";

const FOLDER: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// Writes the image for a machine and returns its path.
pub fn make(machine: Machine, versions: Versions) -> Result<PathBuf> {
    let place = paths::target().join("vm");
    fs::create_dir_all(&place).with_context(|| format!("creating {}", place.display()))?;
    let path = place.join(format!("{}.cpio", machine.arch.name()));
    let mut image = Entries::default();
    for folder in ["dev", "proc", "sys", "tmp", "workloads"] {
        image.add(folder, FOLDER, Vec::new());
    }
    // The kernel opens it for the first process, which would exit without standard output.
    let console = NewcBuilder::new("dev/console").mode(CHARACTER_DEVICE);
    let console = console.rdev_major(5).rdev_minor(1);
    image.0.push((console, Cursor::default()));
    let binary = |name| paths::binary(machine.arch, "release", name);
    image.add("init", EXECUTABLE, read(&binary("guest"))?);
    image.add("gmpscope", EXECUTABLE, read(&binary("gmpscope"))?);

    let mut names = Vec::new();
    for root in roots(versions)? {
        let version = go::version_of(&root)?;
        let built = go::build_with(&root, &version, PROGRAM, go::Symbols::Stripped, machine.arch)?;
        let folder = format!("workloads/{version}");
        image.add(&folder, FOLDER, Vec::new());
        image.add(&format!("{folder}/{VARIANT}"), FOLDER, Vec::new());
        image.add(
            &format!("{folder}/{VARIANT}/{PROGRAM}"),
            EXECUTABLE,
            read(&built)?,
        );
        names.push(version);
    }
    image.add("versions", FILE, names.join("\n").into_bytes());
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    cpio::write_cpio(image.0.into_iter(), BufWriter::new(file))
        .and_then(|mut file| file.flush())
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// The GOROOTs of the toolchains whose programs are in the image.
fn roots(versions: Versions) -> Result<Vec<PathBuf>> {
    let mut roots = go::installed_roots()?;
    if versions == Versions::Few {
        roots = vec![PathBuf::from(go::DEBIAN_1_19), go::root(go::NEWEST)?];
    }
    Ok(roots)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("reading {}", file.display()))
}

/// The files of the archive.
#[derive(Default)]
struct Entries(Vec<(NewcBuilder, Cursor<Vec<u8>>)>);

impl Entries {
    fn add(&mut self, name: &str, mode: u32, data: Vec<u8>) {
        self.0
            .push((NewcBuilder::new(name).mode(mode), Cursor::new(data)));
    }
}
