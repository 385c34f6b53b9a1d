//! A call in a program's source, for people.

use super::pclntab;

/// A call in the target's source. Its words come from the target: they may hold any character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The function, as the binary names it.
    pub function: String,
    /// File, as the compiler was given it, and line.
    pub place: Option<(String, u32)>,
}

impl From<&pclntab::Frame<'_>> for Frame {
    fn from(frame: &pclntab::Frame<'_>) -> Self {
        Self {
            function: frame.function.to_owned(),
            place: frame.file.map(str::to_owned).zip(frame.line),
        }
    }
}

impl std::fmt::Display for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Some((file, line)) => write!(f, "{} {file}:{line}", self.function),
            None => f.write_str(&self.function),
        }
    }
}
