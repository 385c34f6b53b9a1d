//! Types as DWARF's entries describe them.

use gimli::{AttributeValue, DebugInfoOffset, EndianSlice, EntriesTreeNode, LittleEndian, constants as dw};

/// Most members of a struct, several times what `runtime.m` has.
const MAX_MEMBERS: usize = 2000;

/// A section's bytes.
pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// A struct or an array; anything else has neither members nor elements.
#[derive(Default)]
pub(super) struct Type {
    /// Size in bytes.
    pub(super) size: Option<u32>,
    pub(super) members: Vec<Member>,
    /// Number of elements of an array.
    pub(super) count: Option<u32>,
}

/// A field of a struct.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) offset: u32,
    pub(super) r#type: DebugInfoOffset,
}

impl Type {
    /// Reads the children of a struct or an array; `base` is the offset of their unit.
    pub(super) fn read(
        root: EntriesTreeNode<'_, '_, Slice<'_>>,
        base: DebugInfoOffset,
    ) -> gimli::Result<Self> {
        let mut read = Type {
            size: number(root.entry().attr_value(dw::DW_AT_byte_size)),
            ..Type::default()
        };
        let mut children = root.children();
        while let Some(child) = children.next()? {
            let entry = child.entry();
            match entry.tag() {
                dw::DW_TAG_member if read.members.len() < MAX_MEMBERS => {
                    let (name, offset, r#type) = (
                        entry.attr_value(dw::DW_AT_name),
                        number(entry.attr_value(dw::DW_AT_data_member_location)),
                        reference(entry.attr_value(dw::DW_AT_type), base),
                    );
                    if let (Some(AttributeValue::String(name)), Some(offset), Some(r#type)) =
                        (name, offset, r#type)
                    {
                        let name = String::from_utf8_lossy(name.slice()).into_owned();
                        read.members.push(Member { name, offset, r#type });
                    }
                }
                dw::DW_TAG_subrange_type => read.count = number(entry.attr_value(dw::DW_AT_count)),
                _ => (),
            }
        }
        Ok(read)
    }
}

fn number(value: Option<AttributeValue<Slice<'_>>>) -> Option<u32> {
    value?.udata_value().and_then(|v| u32::try_from(v).ok())
}

/// Offset of the entry that an attribute refers to.
pub(super) fn reference(
    value: Option<AttributeValue<Slice<'_>>>,
    base: DebugInfoOffset,
) -> Option<DebugInfoOffset> {
    match value? {
        AttributeValue::DebugInfoRef(at) => Some(at),
        AttributeValue::UnitRef(at) => base.0.checked_add(at.0).map(DebugInfoOffset),
        _ => None,
    }
}
