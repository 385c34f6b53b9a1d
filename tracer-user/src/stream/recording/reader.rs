//! Reads a recording, one entry at a time.

use std::{collections::BTreeSet, io::Read};

use super::{
    Entry,
    block::{self, Next},
    encoder, observation,
    scheduler::Parts,
    stacks,
    wire::{Bytes, Trouble},
};
use crate::{
    binary::Frame,
    error::{Error, Result},
    escape::Untrusted,
    stream::{HistogramKey, Kind, Observation},
};

/// Most observations in one entry.
const AT_ONCE: usize = 1_024;
/// Most creation sites of one recording, which each have a histogram: the kernel's table holds fewer.
const MOST_KEYS: usize = 65_536;
/// Most bytes that all names of one recording may take.
const MOST_NAMES: usize = 64 << 20;

/// A reader of a recording.
#[derive(Debug)]
pub struct Reader<R> {
    file: R,
    name: String,
    /// The contents of the present block, and how many bytes of it were read.
    block: Vec<u8>,
    read: usize,
    base_ns: u64,
    /// Blocks that were read.
    blocks: u64,
    ended: Option<Ended>,
    unknown: u64,
    keys: BTreeSet<HistogramKey>,
    names: usize,
    parts: Parts,
}

/// How a recording ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By the mark of its end.
    Whole,
    /// In the middle.
    Cut {
        /// What is wrong there.
        why: &'static str,
    },
}

impl<R: Read> Reader<R> {
    /// Reads the head of a file; `name` is what errors call it.
    ///
    /// # Errors
    /// It is not a recording, or of another version of the format.
    pub fn new(mut file: R, name: &str) -> Result<Self> {
        let name = name.to_owned();
        let version = block::version(&mut file).map_err(|e| unreadable(&name, &e))?;
        match version {
            Some(block::VERSION) => {}
            Some(version) => {
                return Err(Error::failed(format!(
                    "{name} is a recording in version {version} of the format, and this gmpscope reads version {}: \
                     replay it with the gmpscope that made it",
                    block::VERSION
                )));
            }
            None => {
                return Err(Error::failed(format!(
                    "{name} is not a recording: `gmpscope attach --record FILE` makes one"
                )));
            }
        }
        Ok(Self {
            file,
            name,
            block: Vec::new(),
            read: 0,
            base_ns: 0,
            blocks: 0,
            ended: None,
            unknown: 0,
            keys: BTreeSet::new(),
            names: 0,
            parts: Parts::default(),
        })
    }

    /// Reads the next entry; `None` at the end, about which [`Self::ended`] says more.
    ///
    /// # Errors
    /// The file cannot be read, or was not written by gmpscope.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot end in an error")]
    pub fn next(&mut self) -> Result<Option<Entry>> {
        let mut seen = Vec::new();
        while self.ended.is_none() {
            let Some((tag, from, to)) = self.record()? else {
                if !seen.is_empty() {
                    break;
                }
                self.next_block()?;
                continue;
            };
            let contents = self.block.get(from..to).unwrap_or_default();
            let entry = match tag {
                encoder::tag::STEP => step(contents),
                encoder::tag::NAMES => names(contents),
                encoder::tag::FRAMES => frames(contents),
                encoder::tag::END => {
                    self.ended = Some(Ended::Whole);
                    break;
                }
                tag => match observation::decode(tag, contents, self.base_ns, &mut self.parts) {
                    Ok(observation) => {
                        self.read = to;
                        let Some(observation) = observation else {
                            continue;
                        };
                        self.note_key(&observation)?;
                        let large = matches!(observation.kind, Kind::Transitions(_) | Kind::Scheduler(_));
                        seen.push(observation);
                        if large || seen.len() >= AT_ONCE {
                            break;
                        }
                        continue;
                    }
                    Err(trouble) => Err(trouble),
                },
            };
            if !seen.is_empty() {
                // The entry is read again by the next call.
                break;
            }
            self.read = to;
            match entry {
                Ok(entry) => {
                    self.note_names(&entry)?;
                    return Ok(Some(entry));
                }
                Err(Trouble::Unknown) => self.unknown += 1,
                Err(Trouble::Malformed(why)) => return Err(self.hostile(why)),
            }
        }
        Ok((!seen.is_empty()).then_some(Entry::Observations(seen)))
    }

    /// Returns how the recording ended; `None` if it has not.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// Returns how many records were skipped because a later gmpscope has written them.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Returns the name that errors use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Finds the next record of the block: its tag, and where its contents begin and end; `None` after the last.
    fn record(&mut self) -> Result<Option<(u8, usize, usize)>> {
        let rest = self.block.get(self.read..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let mut bytes = Bytes(rest);
        let read = |bytes: &mut Bytes| {
            let (tag, length) = (bytes.byte()?, bytes.number()?);
            bytes.take(length).map(|contents| (tag, contents.len()))
        };
        match read(&mut bytes) {
            Ok((tag, length)) => {
                let to = self.block.len() - bytes.len();
                Ok(Some((tag, to - length, to)))
            }
            Err(_) => Err(self.hostile("a record does not fit its block")),
        }
    }

    fn next_block(&mut self) -> Result<()> {
        match block::next(&mut self.file).map_err(|e| unreadable(&self.name, &e))? {
            Next::Raw(raw) => {
                let mut bytes = Bytes(&raw);
                self.base_ns = bytes.number().map_err(|_| self.hostile("a block has no time"))?;
                self.read = raw.len() - bytes.len();
                self.block = raw;
                self.blocks += 1;
            }
            Next::End => {
                self.ended = Some(Ended::Cut {
                    why: "it ends without the mark of an end",
                });
            }
            Next::Broken(why) => self.ended = Some(Ended::Cut { why }),
            Next::Hostile(why) => return Err(self.hostile(why)),
        }
        Ok(())
    }

    fn note_key(&mut self, observation: &Observation) -> Result<()> {
        if let Kind::HistogramDelta(delta) = &observation.kind {
            self.keys.insert(delta.key);
            if self.keys.len() > MOST_KEYS {
                return Err(self.hostile("it has more creation sites than there can be"));
            }
        }
        Ok(())
    }

    fn note_names(&mut self, entry: &Entry) -> Result<()> {
        self.names += match entry {
            Entry::Names(names) => names.iter().map(|(_, name)| name.raw().len() + 16).sum::<usize>(),
            Entry::Frames(frames) => {
                let file = |frame: &Frame| frame.place.as_ref().map_or(0, |(file, _)| file.raw().len());
                let calls = frames.iter().flat_map(|(_, frames)| frames);
                let calls: usize = calls
                    .map(|frame| frame.function.raw().len() + file(frame) + 64)
                    .sum();
                calls + 32 * frames.len()
            }
            Entry::Step(_) | Entry::Observations(_) => 0,
        };
        if self.names > MOST_NAMES {
            return Err(self.hostile("its names take more room than there can be"));
        }
        Ok(())
    }

    fn hostile(&self, why: &str) -> Error {
        Error::failed(format!(
            "{} is not a recording as gmpscope writes it: {why} (block {})",
            self.name,
            self.blocks.saturating_add(1)
        ))
    }
}

fn unreadable(name: &str, e: &std::io::Error) -> Error {
    Error::failed(format!("{name} cannot be read: {e}"))
}

fn step(contents: &[u8]) -> std::result::Result<Entry, Trouble> {
    std::str::from_utf8(contents)
        .map(|json| Entry::Step(json.to_owned()))
        .map_err(|_| Trouble::Malformed("a step is not UTF-8"))
}

fn names(contents: &[u8]) -> std::result::Result<Entry, Trouble> {
    by_address(contents, |bytes| bytes.text().map(Untrusted::from)).map(Entry::Names)
}

fn frames(contents: &[u8]) -> std::result::Result<Entry, Trouble> {
    by_address(contents, stacks::decode_frames).map(Entry::Frames)
}

/// Reads entries, each after its address.
fn by_address<T>(
    contents: &[u8],
    read: impl Fn(&mut Bytes<'_>) -> std::result::Result<T, Trouble>,
) -> std::result::Result<Vec<(u64, T)>, Trouble> {
    let mut bytes = Bytes(contents);
    let mut entries = Vec::new();
    let mut last = 0;
    while !bytes.is_empty() {
        last = bytes.difference(last)?;
        entries.push((last, read(&mut bytes)?));
    }
    Ok(entries)
}
