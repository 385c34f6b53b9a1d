//! Inline trees: the functions that the compiler inlined into another, and where.
//!
//! Source: `runtime/symtabinl.go` (`inlinedCall`, Go 1.20+: 16 bytes, the parent is found through `parentPc`);
//! `runtime/symtab.go` of Go 1.18 and 1.19 (20 bytes, with the parent's index).

use std::collections::BTreeSet;

use super::{FuncIndex, PcLnTab, field, pcvalue::PcValues, u32_at};
use crate::binary::pclntab::Format;

/// `PCDATA_InlTreeIndex` (`internal/abi/symtab.go`; before 1.21 `runtime/funcdata.h`).
const PCDATA_INL_TREE_INDEX: usize = 2;
/// `FUNCDATA_InlTree`.
const FUNCDATA_INL_TREE: usize = 3;
/// Most nodes: no function has more, so this stops at a corrupted table.
const MAX_NODES: usize = 1 << 12;
/// Greatest depth: the compiler does not inline deeper, so this stops at a cycle in a corrupted tree.
pub(super) const MAX_DEPTH: usize = 256;

impl<'d> PcLnTab<'d> {
    /// Names of all functions inlined into `f`: one entry per node of its inline tree that has instructions, and per
    /// ancestor of such a node.
    pub fn inlined_into(&self, f: FuncIndex) -> Vec<&'d str> {
        let Some(tree) = self.tree(f) else {
            return Vec::new();
        };
        let Some(values) = self.tree_indexes(f) else {
            return Vec::new();
        };
        let mut nodes = BTreeSet::new();
        for (_, value) in values {
            let mut next = u32::try_from(value).ok();
            while let Some(node) = next
                && nodes.len() < MAX_NODES
                && nodes.insert(node)
            {
                next = self.parent(f, tree, node);
            }
        }
        nodes
            .into_iter()
            .filter_map(|n| self.node_name(tree, n))
            .collect()
    }

    /// Names of the inlined functions that a link-time address of `f` belongs to, innermost first, without `f` itself.
    pub fn inlined_at(&self, f: FuncIndex, pc: u64) -> Vec<&'d str> {
        let mut names = Vec::new();
        let node = || {
            let offset = u32::try_from(pc.checked_sub(self.range(f)?.0)?).ok()?;
            u32::try_from(self.tree_indexes(f)?.at(offset)?).ok()
        };
        let Some(tree) = self.tree(f) else { return names };
        let mut next = node();
        while let Some(node) = next
            && names.len() < MAX_DEPTH
        {
            let Some(name) = self.node_name(tree, node) else {
                break;
            };
            names.push(name);
            next = self.parent(f, tree, node);
        }
        names
    }

    /// Number of bytes that the function's table of stack depths covers: its code without padding.
    pub(super) fn pcsp_end(&self, f: FuncIndex) -> Option<u64> {
        let table = u32_at(self.func(f)?, field::PCSP)?;
        PcValues::new(self.pctab, table, self.header.min_lc)?
            .last()
            .map(|(end, _)| u64::from(end))
    }

    pub(super) fn tree_indexes(&self, f: FuncIndex) -> Option<PcValues<'d>> {
        let func = self.func(f)?;
        let npcdata = u32_at(func, field::NPCDATA)? as usize;
        if npcdata <= PCDATA_INL_TREE_INDEX {
            return None;
        }
        let table = u32_at(func, self.header.format.func_size() + PCDATA_INL_TREE_INDEX * 4)?;
        PcValues::new(self.pctab, table, self.header.min_lc)
    }

    pub(super) fn tree(&self, f: FuncIndex) -> Option<&'d [u8]> {
        let func = self.func(f)?;
        let size = self.header.format.func_size();
        let npcdata = u32_at(func, field::NPCDATA)? as usize;
        // `nfuncdata` is the last byte of `_func`.
        if usize::from(*func.get(size - 1)?) <= FUNCDATA_INL_TREE {
            return None;
        }
        let at = npcdata
            .checked_add(FUNCDATA_INL_TREE)?
            .checked_mul(4)?
            .checked_add(size)?;
        let offset = u32_at(func, at).filter(|&o| o != u32::MAX)?;
        self.gofunc.get(offset as usize..)
    }

    pub(super) fn node_name(&self, tree: &[u8], node: u32) -> Option<&'d str> {
        let name = match self.header.format {
            Format::Go118 => u32_at(tree, (node as usize).checked_mul(20)?.checked_add(12)?)?,
            Format::Go120 => u32_at(tree, (node as usize).checked_mul(16)?.checked_add(4)?)?,
        };
        // A name begins after the end of another: anything else means that this is not the tree.
        let before = (name as usize).checked_sub(1);
        before
            .is_none_or(|at| self.names.get(at) == Some(&0))
            .then(|| self.name_from(name))
            .flatten()
    }

    /// The [`PcLnTab::func_id`] of a node.
    pub(super) fn node_id(&self, tree: &[u8], node: u32) -> Option<u8> {
        let at = match self.header.format {
            Format::Go118 => (node as usize).checked_mul(20)?.checked_add(2)?,
            Format::Go120 => (node as usize).checked_mul(16)?,
        };
        tree.get(at).copied()
    }

    /// The offset, from the entry of the containing function, at which the node's call would be without inlining: an
    /// instruction with the call's source position.
    pub(super) fn parent_offset(&self, tree: &[u8], node: u32) -> Option<u32> {
        let (size, field) = match self.header.format {
            Format::Go118 => (20, 16),
            Format::Go120 => (16, 8),
        };
        u32_at(tree, (node as usize).checked_mul(size)?.checked_add(field)?)
    }

    /// The node into which a node is inlined; `None` for the function itself.
    fn parent(&self, f: FuncIndex, tree: &[u8], node: u32) -> Option<u32> {
        match self.header.format {
            Format::Go118 => {
                let first = u32_at(tree, (node as usize).checked_mul(20)?)?;
                let [low, high, ..] = first.to_le_bytes();
                u32::try_from(i16::from_le_bytes([low, high])).ok()
            }
            Format::Go120 => {
                let parent_pc = self.parent_offset(tree, node)?;
                u32::try_from(self.tree_indexes(f)?.at(parent_pc)?).ok()
            }
        }
    }
}
