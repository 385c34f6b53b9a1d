//! Encodes entries into the contents of blocks.

use super::{
    block, observation, stacks,
    wire::{put, put_difference, put_text},
};
use crate::{binary::Frame, stream::Observation};

/// Tags of records that are not observations.
pub mod tag {
    /// A step of the capture, as JSON.
    pub const STEP: u8 = 1;
    /// Names of addresses.
    pub const NAMES: u8 = 2;
    /// The end of a complete recording.
    pub const END: u8 = 3;
    /// Calls at addresses.
    pub const FRAMES: u8 = 4;
}

/// Size from which a block counts as full.
const FULL: usize = 128 * 1024;
/// Longest name that is kept; the compiler makes none of that length.
const LONGEST_NAME: usize = 16 * 1024;

/// Builds the contents of blocks. Each block can be decoded by itself: no difference refers to an earlier one.
#[derive(Debug, Default)]
pub struct Encoder {
    block: Vec<u8>,
    base_ns: u64,
    contents: Vec<u8>,
    full: Vec<Vec<u8>>,
    /// Records that were too large for a block; nothing that we make is.
    left_out: u64,
}

impl Encoder {
    /// Adds a step, as JSON.
    pub fn step(&mut self, json: &[u8]) {
        self.contents.extend_from_slice(json);
        self.record(tag::STEP);
    }

    /// Adds names of addresses of the target.
    pub fn names<'n>(&mut self, names: impl IntoIterator<Item = (u64, &'n str)>) {
        self.by_address(tag::NAMES, names, |out, name| put_text(out, cut(name)));
    }

    /// Adds calls at addresses of the target, innermost first.
    pub fn frames<'f>(&mut self, frames: impl IntoIterator<Item = (u64, &'f [Frame])>) {
        self.by_address(tag::FRAMES, frames, stacks::encode_frames);
    }

    /// Adds entries, each after its address, in as many records as they need.
    fn by_address<T>(
        &mut self,
        tag: u8,
        entries: impl IntoIterator<Item = (u64, T)>,
        append: impl Fn(&mut Vec<u8>, T),
    ) {
        let mut last = 0;
        for (address, entry) in entries {
            put_difference(&mut self.contents, address, last);
            append(&mut self.contents, entry);
            last = address;
            if self.contents.len() > FULL {
                self.record(tag);
                last = 0;
            }
        }
        if !self.contents.is_empty() {
            self.record(tag);
        }
    }

    /// Adds observations.
    pub fn observations(&mut self, seen: &[Observation]) {
        for observation in seen {
            if self.block.is_empty() {
                self.begin(observation.at_ns);
            }
            observation::encode(self.base_ns, observation, &mut |tag, append| {
                append(&mut self.contents);
                self.record(tag);
            });
        }
    }

    /// Adds the end of the recording.
    pub fn end(&mut self) {
        self.record(tag::END);
    }

    /// Takes the blocks that are full; with `all`, also the one that is not.
    pub fn take(&mut self, all: bool) -> Vec<Vec<u8>> {
        if all && !self.block.is_empty() {
            self.hand_over();
        }
        std::mem::take(&mut self.full)
    }

    /// Whether it holds nothing that was not taken.
    pub fn is_empty(&self) -> bool {
        self.full.is_empty() && self.block.is_empty()
    }

    /// Returns how many records were too large to be recorded.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    fn begin(&mut self, base_ns: u64) {
        self.base_ns = base_ns;
        put(&mut self.block, base_ns);
    }

    /// Appends `contents` to the block, after a tag and its length.
    fn record(&mut self, tag: u8) {
        if self.contents.len() > block::MOST_RAW / 2 {
            self.left_out += 1;
            self.contents.clear();
            return;
        }
        if self.block.is_empty() {
            self.begin(self.base_ns);
        }
        self.block.push(tag);
        put(&mut self.block, self.contents.len() as u64);
        self.block.append(&mut self.contents);
        if self.block.len() >= FULL {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let next = Vec::with_capacity(self.block.len());
        self.full.push(std::mem::replace(&mut self.block, next));
    }
}

fn cut(name: &str) -> &str {
    name.get(..name.floor_char_boundary(LONGEST_NAME))
        .unwrap_or_default()
}
