//! Subcommands of cargo that PyPI has in compiled form.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::pip;
use crate::{paths, step};

/// A subcommand of cargo that is installed into the cache, unless it is on PATH.
pub struct CargoTool {
    /// The name of the program and of the crate.
    pub name: &'static str,
    /// The version to install.
    pub version: &'static str,
    /// The PyPI package with the compiled program.
    pub package: &'static str,
}

impl CargoTool {
    /// Whether it is installed, on PATH or in the cache.
    pub fn is_there(&self) -> Result<bool> {
        Ok(paths::on_path(self.name).is_some() || self.cached()?.is_file())
    }

    /// The installed program.
    pub fn program(&self) -> Result<PathBuf> {
        match paths::on_path(self.name) {
            Some(program) => Ok(program),
            None => self.cached(),
        }
    }

    /// Fetches the compiled program; if that fails, compiles it, which takes some minutes.
    pub fn install(&self) -> Result<()> {
        let tools = paths::cached_tools()?;
        fs::create_dir_all(&tools).with_context(|| format!("creating {}", tools.display()))?;
        if let Err(error) = self.fetch() {
            eprintln!("   no prebuilt {}: {error:#}", self.name);
            let mut cargo = paths::cargo();
            cargo
                .args(["install", self.name, "--locked", "--version", self.version])
                .arg("--root")
                .arg(paths::cache()?.join("tools"));
            step::run_quietly(&format!("compiling {}", self.name), &mut cargo)?;
        }
        Ok(())
    }

    fn fetch(&self) -> Result<()> {
        let unpacked = pip::unpack(self.package, self.version)?;
        let data = format!("{}-{}.data", self.package.replace('-', "_"), self.version);
        let program = unpacked.join(data).join("scripts").join(self.name);
        pip::make_executable(&program)?;
        fs::rename(&program, self.cached()?).with_context(|| format!("moving {} to its place", self.name))?;
        fs::remove_dir_all(&unpacked).with_context(|| format!("removing {}", unpacked.display()))
    }

    fn cached(&self) -> Result<PathBuf> {
        Ok(paths::cached_tools()?.join(self.name))
    }
}
