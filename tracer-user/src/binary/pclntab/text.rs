//! Maps offsets in the text of a module to addresses and back.

use crate::error::{Error, Result};

/// A text section of a module, as in `runtime.textsect` (`runtime/symtab.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextSection {
    /// Offset of its first byte.
    pub start: u64,
    /// Offset after its last byte.
    pub end: u64,
    /// Link-time address of its first byte.
    pub address: u64,
}

/// `moduledata.text`, `etext` and `textsectmap`: one contiguous range, unless the program was so large that the linker
/// split it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextMap {
    text: u64,
    etext: u64,
    /// Empty when there is one section.
    sections: Vec<TextSection>,
}

impl TextMap {
    /// A map of the range `text..etext`; `sections` are the module's text sections if there are several.
    pub fn new(text: u64, etext: u64, sections: Vec<TextSection>) -> Result<Self> {
        if text >= etext {
            return Err(Error::not_traceable(format!(
                "the Go module's text {text:#x}..{etext:#x} is empty: the file is corrupted; compare it with a fresh \
                 copy of the program"
            )));
        }
        let sections = if sections.len() > 1 { sections } else { Vec::new() };
        Ok(Self {
            text,
            etext,
            sections,
        })
    }

    /// `moduledata.text`: link-time address of the first function.
    pub fn text(&self) -> u64 {
        self.text
    }

    /// `moduledata.etext`: link-time address after the last function.
    pub fn etext(&self) -> u64 {
        self.etext
    }

    /// Whether there is only one text section.
    pub fn is_single(&self) -> bool {
        self.sections.is_empty()
    }

    /// `textAddr`: the link-time address of an offset; `None` outside the text.
    pub fn address(&self, offset: u32) -> Option<u64> {
        let offset = u64::from(offset);
        let last = self.sections.len().wrapping_sub(1);
        let address = match self
            .sections
            .iter()
            .enumerate()
            .find(|(i, s)| (s.start <= offset && offset < s.end) || (*i == last && offset == s.end))
        {
            Some((_, s)) => s.address.checked_add(offset - s.start)?,
            None => self.text.checked_add(offset)?,
        };
        (self.text..=self.etext).contains(&address).then_some(address)
    }

    /// `textOff`: the offset of a link-time address; `None` outside the text.
    pub fn offset(&self, address: u64) -> Option<u32> {
        if self.sections.is_empty() {
            return u32::try_from(address.checked_sub(self.text)?)
                .ok()
                .filter(|_| address < self.etext);
        }
        let s = self.sections.iter().find(|s| {
            s.address <= address
                && s.end
                    .checked_sub(s.start)
                    .is_some_and(|len| address - s.address < len)
        })?;
        u32::try_from(s.start.checked_add(address - s.address)?).ok()
    }
}
