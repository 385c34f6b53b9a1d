//! Tests of the configuration, and what they share.

mod hostile;
mod layers;
mod mistakes;
mod reloads;
mod same;

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::*;

/// A folder with configuration files, of which `config.toml` is the first that is read.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::create_dir(folder.path("conf.d")).unwrap();
        fs::create_dir(folder.path("elsewhere")).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> &Self {
        fs::write(self.path(name), text).unwrap();
        self
    }

    /// By a rename from a folder that is not watched, so that nothing but the rename is to be seen.
    fn replace(&self, name: &str, text: &str) {
        let elsewhere = self.path("elsewhere");
        fs::write(elsewhere.join("new"), text).unwrap();
        fs::rename(elsewhere.join("new"), self.path(name)).unwrap();
    }

    fn layers(&self) -> Layers {
        Layers {
            files: Files::Config(self.path("config.toml")),
            ..Layers::default()
        }
    }

    fn load(&self) -> Result<Loaded, Vec<Mistake>> {
        load(&self.layers())
    }
}

fn environment(pairs: &[(&str, &str)]) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    pairs
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

/// The mistakes of one file, as they are reported, without its folder.
fn mistakes(text: impl AsRef<[u8]>) -> Vec<String> {
    let folder = Folder::new();
    let mistakes = folder.write("config.toml", text).load().unwrap_err();
    let prefix = format!("{}/", folder.0.path().display());
    mistakes
        .iter()
        .map(|mistake| mistake.to_string().replace(&prefix, ""))
        .collect()
}

fn origin(loaded: &Loaded, name: &str, folder: &Path) -> String {
    let shown = loaded.origins.get(name).unwrap().to_string();
    shown.replace(&format!("{}/", folder.display()), "")
}
