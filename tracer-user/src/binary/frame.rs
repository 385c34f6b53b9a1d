//! A call in a program's source, for output.

use super::pclntab;
use crate::escape::Untrusted;

/// A call in the target's source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The function, as the binary names it.
    pub function: Untrusted,
    /// File, as the compiler was given it, and line.
    pub place: Option<(Untrusted, u32)>,
}

impl From<&pclntab::Frame<'_>> for Frame {
    fn from(frame: &pclntab::Frame<'_>) -> Self {
        Self {
            function: frame.function.into(),
            place: frame.file.map(Untrusted::from).zip(frame.line),
        }
    }
}

impl Frame {
    /// `FUNCTION FILE:LINE`, or the function alone.
    pub fn whole(&self) -> Untrusted {
        match &self.place {
            Some((file, line)) => format!("{} {}:{line}", self.function.raw(), file.raw()).into(),
            None => self.function.clone(),
        }
    }
}

impl std::fmt::Display for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.whole().fmt(f)
    }
}
