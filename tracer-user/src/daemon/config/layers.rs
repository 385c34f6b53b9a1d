//! The layers of a configuration, and reading its files.

use std::{
    ffi::OsString,
    fs, io,
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    mistake::{Kind, Mistake},
    origin::{Lines, Origin},
};

/// The file that is read without `--config`.
pub const FILE: &str = "/etc/gmpscope/config.toml";

/// The folder beside the configuration file whose `*.toml` are read after it, sorted by name.
pub const FOLDER: &str = "conf.d";

/// How many bytes all files of a configuration may have together.
const LARGEST: u64 = 1 << 20;

/// Where settings are looked for. Later layers win: built-in defaults, files, environment, flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// The files to read.
    pub files: Files,
    /// Environment variables; those that are not settings are ignored.
    pub environment: Vec<(OsString, OsString)>,
    /// Options of the command line: the name of the setting, and the value.
    pub flags: Vec<(&'static str, String)>,
}

/// Which files are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Files {
    /// [`FILE`], if it is there, and the [`FOLDER`] beside it.
    #[default]
    Installed,
    /// This file, which must be there, and the [`FOLDER`] beside it.
    Config(PathBuf),
    /// Exactly these files, in this order.
    These(Vec<PathBuf>),
}

/// The files that were read.
#[derive(Debug)]
pub struct Texts {
    /// Each file with its content.
    pub files: Vec<(PathBuf, String)>,
    /// Files that could not be read.
    pub mistakes: Vec<Mistake>,
}

impl Files {
    /// The paths of the files, and the folder whose files are read after them.
    pub fn places(&self) -> (Vec<PathBuf>, Option<PathBuf>) {
        let beside = |file: &Path| file.with_file_name(FOLDER);
        match self {
            Self::Installed => (vec![FILE.into()], Some(beside(Path::new(FILE)))),
            Self::Config(file) => (vec![file.clone()], Some(beside(file))),
            Self::These(files) => (files.clone(), None),
        }
    }

    /// Reads all files.
    pub fn read(&self) -> Texts {
        let mut texts = Texts {
            files: Vec::new(),
            mistakes: Vec::new(),
        };
        let mut left = LARGEST;
        let (first, folder) = self.places();
        for path in first {
            let may_be_missing = *self == Self::Installed && !path.is_symlink();
            texts.take(path, may_be_missing, &mut left);
        }
        match folder.as_deref().map(dropped_in) {
            Some(Ok(files)) => {
                for path in files {
                    // A file may be removed after the folder was read; a link to nothing is a mistake.
                    let may_be_missing = !path.is_symlink();
                    texts.take(path, may_be_missing, &mut left);
                }
            }
            Some(Err(error)) => texts.unreadable(&folder.unwrap_or_default(), &reason(&error)),
            None => {}
        }
        texts
    }
}

/// The `*.toml` of a folder, sorted by name; none if it does not exist. Hidden files, which editors and package
/// managers leave behind, are ignored.
pub fn dropped_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

impl Texts {
    fn take(&mut self, path: PathBuf, may_be_missing: bool, left: &mut u64) {
        match content(&path, *left) {
            Ok(bytes) => {
                *left = left.saturating_sub(bytes.len() as u64);
                match String::from_utf8(bytes) {
                    Ok(text) => self.files.push((path, text)),
                    Err(error) => {
                        let good = error.utf8_error().valid_up_to();
                        let bytes = error.into_bytes();
                        let text = String::from_utf8_lossy(bytes.get(..good).unwrap_or_default());
                        let origin = Origin::File {
                            path,
                            at: Some(Lines::of(&text).position(good)),
                        };
                        self.mistakes.push(Mistake::new(
                            Kind::Syntax,
                            &origin,
                            None,
                            "not UTF-8, which TOML is: save the file in this encoding",
                        ));
                    }
                }
            }
            Err(error) if may_be_missing && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.unreadable(&path, &reason(&error)),
        }
    }

    fn unreadable(&mut self, path: &Path, why: &str) {
        let origin = Origin::File {
            path: path.to_owned(),
            at: None,
        };
        self.mistakes
            .push(Mistake::new(Kind::Unreadable, &origin, None, why));
    }

    /// A digest of everything that was read, by which changes are recognized.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        let mut add = |part: &[u8]| {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        };
        for (path, text) in &self.files {
            add(path.as_os_str().as_encoded_bytes());
            add(text.as_bytes());
        }
        for mistake in &self.mistakes {
            add(mistake.to_string().as_bytes());
        }
        digest.finalize().into()
    }
}

/// Reads a plain file of at most `left` bytes. Others are refused: reading a pipe or a device may never end.
fn content(path: &Path, left: u64) -> io::Result<Vec<u8>> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    let mut bytes = Vec::new();
    file.take(left + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > left {
        return Err(io::Error::other(format!(
            "the files of a configuration have more than {LARGEST} bytes together; a configuration is smaller"
        )));
    }
    Ok(bytes)
}

/// The message about a file that cannot be read.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory, not a file".to_owned(),
        io::ErrorKind::NotADirectory => "it is a file, not a directory".to_owned(),
        io::ErrorKind::PermissionDenied => {
            format!("it may not be read: {error}; let the daemon's user read it, and search its folders")
        }
        _ => format!("it cannot be read: {error}"),
    }
}
