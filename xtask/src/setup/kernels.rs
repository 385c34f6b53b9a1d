//! Kernels from Debian's archive, kept in `kernels/ARCH/SERIES/` of the cache.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::archive::Archive;
use super::pip::entries;
use super::{put, scratch};
use crate::arch::Arch;
use crate::paths;

/// A series of kernels, named by its stable branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Series {
    /// The oldest that gmpscope supports, of Debian 11.
    #[value(name = "5.10")]
    V5_10,
    /// Debian 12.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13.
    #[value(name = "6.12")]
    V6_12,
    /// The newest that Debian has.
    #[value(name = "newest")]
    Newest,
}

impl Series {
    /// All series, the oldest first.
    pub const ALL: [Self; 4] = [Self::V5_10, Self::V6_1, Self::V6_12, Self::Newest];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Newest => "newest",
        }
    }

    /// The suites that have it, the preferred one first.
    fn suites(self) -> &'static [&'static str] {
        match self {
            // The index of the security suite names packages for arm64 that have been removed.
            Self::V5_10 => &["bullseye-security", "bullseye"],
            Self::V6_1 => &["bookworm"],
            Self::V6_12 => &["trixie"],
            Self::Newest => &["trixie-backports", "sid"],
        }
    }
}

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The path of the image.
    pub image: PathBuf,
    /// The package that it comes from: `linux-image-6.12.117+deb13-cloud-arm64`.
    pub package: String,
}

/// The kernel of a series, which is fetched unless it is in the cache.
pub fn kernel(series: Series, arch: Arch) -> Result<Kernel> {
    let place = paths::cache()?
        .join("kernels")
        .join(arch.name())
        .join(series.name());
    let kernel = |package: String| Kernel {
        image: place.join("vmlinuz"),
        package,
    };
    if let Ok(package) = fs::read_to_string(place.join("package")) {
        return Ok(kernel(package.trim().to_owned()));
    }
    let mut tried = Vec::new();
    for suite in series.suites() {
        match fetch(suite, arch, &place) {
            Ok(package) => return Ok(kernel(package)),
            Err(why) => tried.push(format!("{suite}: {why:#}")),
        }
    }
    bail!(
        "no kernel {} for {}:\n  {}",
        series.name(),
        arch.name(),
        tried.join("\n  ")
    )
}

/// Fetches the kernel that the meta package of a suite depends on; the names of the other packages change with each
/// update. Returns the name of the package.
fn fetch(suite: &str, arch: Arch, place: &Path) -> Result<String> {
    let archive = Archive::open(suite, arch)?;
    let scratch = scratch()?;
    let scratch = scratch.path();
    let meta = format!("linux-image-cloud-{}", arch.goarch());
    let package = kernel_dependency(&archive, &meta)?;
    archive.unpack(&package, scratch)?;
    let mut image = image_in(scratch);
    if image.is_none() {
        // From 7.x on the image is in a separate package.
        archive.unpack(&kernel_dependency(&archive, &package)?, scratch)?;
        image = image_in(scratch);
    }
    let image = image.with_context(|| format!("{package} has no vmlinuz"))?;
    let kept = scratch.join("kept");
    fs::create_dir(&kept)?;
    fs::rename(&image, kept.join("vmlinuz"))?;
    // Written last: whoever finds it takes the image for complete.
    fs::write(kept.join("package"), &package)?;
    put(&kept, place, "package")?;
    Ok(package)
}

/// The kernel package that a package depends on.
fn kernel_dependency(archive: &Archive, package: &str) -> Result<String> {
    let dependencies = archive.dependencies(package)?;
    let next = dependencies.iter().find(|name| {
        ["linux-image-", "linux-binary-"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    });
    next.cloned()
        .with_context(|| format!("{package} depends on no kernel: {dependencies:?}"))
}

/// The image in an unpacked package: `boot/vmlinuz-…`, or `usr/lib/modules/…/vmlinuz` from 7.x on.
fn image_in(root: &Path) -> Option<PathBuf> {
    let boot = entries(&root.join("boot")).unwrap_or_default();
    let modules = entries(&root.join("usr/lib/modules")).unwrap_or_default();
    let in_boot = boot.into_iter().find(|file| {
        file.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
    });
    in_boot.or_else(|| {
        modules
            .into_iter()
            .map(|folder| folder.join("vmlinuz"))
            .find(|file| file.is_file())
    })
}
