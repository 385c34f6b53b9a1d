//! Files and lines of addresses, as in the runtime's own tracebacks.
//!
//! Source: `runtime/symtab.go` (`funcline1`, `funcfile`), `runtime/symtabinl.go` (`inlineUnwinder`).

use super::{FuncIndex, PcLnTab, field, inltree::MAX_DEPTH, pcvalue::PcValues, u32_at, until_nul};

/// A call in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'d> {
    /// The function's name in the linker.
    pub function: &'d str,
    /// The file of the call, as it was passed to the compiler. `None` if the table does not have it.
    pub file: Option<&'d str>,
    /// The line in it.
    pub line: Option<u32>,
    /// Whether the compiler made the function to call another: a method of an embedded field, the call of a `go`
    /// statement. The runtime's own tracebacks leave these out.
    pub is_wrapper: bool,
}

impl<'d> PcLnTab<'d> {
    /// The functions that a link-time address belongs to, innermost first: those inlined there, and the function
    /// itself last. Empty outside of Go's text. For a return address, pass the address minus one, as the runtime
    /// does.
    pub fn frames_at(&self, pc: u64) -> Vec<Frame<'d>> {
        let mut frames = Vec::new();
        let Some(f) = self.function_of(pc) else {
            return frames;
        };
        let Some(mut offset) = self
            .range(f)
            .and_then(|(start, _)| u32::try_from(pc.checked_sub(start)?).ok())
        else {
            return frames;
        };
        let tree = self.tree(f);
        while frames.len() < MAX_DEPTH {
            let inlined = tree.and_then(|tree| {
                let node = u32::try_from(self.tree_indexes(f)?.at(offset)?).ok()?;
                let parent = self.parent_offset(tree, node)?;
                Some((self.node_name(tree, node)?, self.node_id(tree, node), parent))
            });
            let (function, id) = match inlined {
                Some((name, id, _)) => (name, id),
                None => match self.name(f) {
                    Some(name) => (name, self.func_id(f)),
                    None => break,
                },
            };
            frames.push(Frame {
                function,
                file: self.file(f, offset),
                line: self.line(f, offset),
                is_wrapper: self.wrapper != 0 && id == Some(self.wrapper),
            });
            match inlined {
                Some((.., parent)) => offset = parent,
                None => break,
            }
        }
        frames
    }

    fn value(&self, f: FuncIndex, table: usize, offset: u32) -> Option<u32> {
        let table = u32_at(self.func(f)?, table)?;
        let value = PcValues::new(self.pctab, table, self.header.min_lc)?.at(offset)?;
        u32::try_from(value).ok()
    }

    fn line(&self, f: FuncIndex, offset: u32) -> Option<u32> {
        self.value(f, field::PCLN, offset)
    }

    /// The name of a file, whose number is an index into the compilation unit's part of `cutab`.
    fn file(&self, f: FuncIndex, offset: u32) -> Option<&'d str> {
        let number = self.value(f, field::PCFILE, offset)?;
        let entry = u32_at(self.func(f)?, field::CU_OFFSET)?.checked_add(number)?;
        let at = u32_at(self.cutab, (entry as usize).checked_mul(4)?)?;
        // u32::MAX stands for a name that was left out.
        std::str::from_utf8(until_nul(self.filetab.get(at as usize..)?)?).ok()
    }
}
