//! Where a program's file is mapped in a process: the load bias, and the proof that it is that file.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::FileExt;

use procfs::process::{MMPermissions, MemoryMap, MemoryMaps};
use procfs::{FromRead as _, ProcError};

use super::Process;
use crate::binary::image::Segment;
use crate::error::{Error, Result};
use crate::escape::Untrusted;
use crate::process::file::{FileId, ProgramFile};
use crate::process::memory::{Memory as _, ProcessMemory};

/// Bytes that are compared where identities cannot be: the first page, with the ELF header, the program headers and
/// Go's build ID.
const COMPARED: usize = 4096;

/// A part of a file that a process has mapped executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Begin and end addresses in the process.
    pub address: (u64, u64),
    /// Offset in the file of the first byte.
    pub offset: u64,
    /// Inode, as /proc/PID/maps has it.
    pub inode: u64,
    /// Path, as /proc/PID/maps has it.
    pub path: Untrusted,
}

impl Process {
    /// The load bias: run-time minus link-time address. `segments` are those of `file`. If the process does not map
    /// that file, this fails, since a probe inside an instruction would kill the process.
    pub fn load_bias(&self, file: &ProgramFile, segments: &[Segment]) -> Result<u64> {
        let maps = self.maps()?;
        let code = segments
            .iter()
            .find(|s| s.executable)
            .ok_or_else(|| Error::not_traceable(format!("{}: has no code", file.name())))?;
        let mut other = None;
        for map in maps
            .iter()
            .filter(|m| m.perms.contains(MMPermissions::EXECUTE) && m.inode != 0)
        {
            let size = map.address.1.saturating_sub(map.address.0);
            let holds = map.offset <= code.offset.saturating_add(code.file_size.saturating_sub(1))
                && code.offset < map.offset.saturating_add(size);
            if !holds {
                continue;
            }
            if !self.is_mapping_of(map, &maps, file) {
                other.get_or_insert(map);
                continue;
            }
            // The bias is a difference of addresses, and may wrap.
            let at = map.address.0.wrapping_add(code.offset).wrapping_sub(map.offset);
            return Ok(at.wrapping_sub(code.address));
        }
        Err(Error::not_traceable(match other {
            Some(_) => format!(
                "process {} ({}) does not execute {}: what it has mapped is another file; try again, it may just \
                 have started another program",
                self.pid(),
                self.comm(),
                file.name()
            ),
            None => format!(
                "process {} ({}): the code of {} is not mapped from its file (the process moved it into anonymous \
                 memory, as some huge-page loaders do): no probe can be placed there",
                self.pid(),
                self.comm(),
                file.name()
            ),
        }))
    }

    /// Executable mappings of files other than `exe`: its shared libraries.
    pub fn libraries(&self, exe: FileId) -> Result<Vec<Mapped>> {
        let mut found: Vec<Mapped> = Vec::new();
        for map in self.maps()? {
            let executable = map.perms.contains(MMPermissions::EXECUTE);
            if !executable
                || map.inode == 0
                || map.inode == exe.inode
                || found.iter().any(|f| f.inode == map.inode)
            {
                continue;
            }
            let procfs::process::MMapPath::Path(path) = map.pathname else {
                continue;
            };
            found.push(Mapped {
                address: map.address,
                offset: map.offset,
                inode: map.inode,
                path: Untrusted::path(&path),
            });
        }
        Ok(found)
    }

    /// Opens the file behind a mapping, in whichever mount namespace it is.
    pub fn open_mapped(&self, mapped: &Mapped) -> Result<ProgramFile> {
        let root = self.path("root");
        let path = root.join(mapped.path.raw().trim_start_matches('/'));
        ProgramFile::open_as(&path, mapped.path.clone())
    }

    /// Opens the file whose code is mapped at an address of the process.
    ///
    /// # Errors
    /// No file is mapped there, or it cannot be opened.
    pub fn open_code_at(&self, address: u64) -> Result<ProgramFile> {
        let maps = self.maps()?;
        let map = maps.iter().find(|map| {
            (map.address.0..map.address.1).contains(&address) && map.perms.contains(MMPermissions::EXECUTE)
        });
        let not_there = || {
            Error::not_traceable(format!(
                "process {} ({}): no code of a file is mapped at {address:#x}",
                self.pid(),
                self.comm()
            ))
        };
        let map = map.ok_or_else(not_there)?;
        let procfs::process::MMapPath::Path(path) = &map.pathname else {
            return Err(not_there());
        };
        let name = Untrusted::path(path);
        // This link leads to the very file even if that was replaced or deleted, but not everybody may follow it.
        let (start, end) = map.address;
        let link = self.path(&format!("map_files/{start:x}-{end:x}"));
        ProgramFile::open_as(&link, name.clone()).or_else(|_| {
            let path = self.path("root").join(name.raw().trim_start_matches('/'));
            ProgramFile::open_as(&path, name)
        })
    }

    fn maps(&self) -> Result<Vec<MemoryMap>> {
        let failed = |e| self.read_error("its memory map (/proc/PID/maps)", e);
        let mut bytes = Vec::new();
        let mut file = self.proc.open_relative("maps").map_err(failed)?;
        file.read_to_end(&mut bytes)
            .map_err(|e| failed(ProcError::from(e)))?;
        // Paths may hold any bytes, and procfs takes UTF-8 alone.
        let text = String::from_utf8_lossy(&bytes);
        Ok(MemoryMaps::from_read(text.as_bytes()).map_err(failed)?.0)
    }

    /// Whether a mapping is of this very file. /proc/PID/maps shows the inode of the backing file system: on
    /// overlayfs and btrfs its device differs from that of `stat`, on some overlays its inode, too. Then the identity
    /// through /proc/PID/map_files decides, or if that may not be read, the bytes.
    fn is_mapping_of(&self, map: &MemoryMap, maps: &[MemoryMap], file: &ProgramFile) -> bool {
        let id = file.id();
        let (major, minor) = (i64::from(map.dev.0), i64::from(map.dev.1));
        let device = u32::try_from(major).ok().zip(u32::try_from(minor).ok());
        let same_device = device.is_some_and(|(a, b)| rustix::fs::makedev(a, b) == id.device);
        if same_device {
            return map.inode == id.inode;
        }
        let (start, end) = map.address;
        let mapped = fs::metadata(self.path(&format!("map_files/{start:x}-{end:x}")));
        if mapped.is_ok_and(|m| FileId::of(&m) == id) {
            return true;
        }
        // The mapping of the file's first page: same inode, offset 0.
        let first = maps
            .iter()
            .find(|m| m.offset == 0 && m.inode == map.inode && m.dev == map.dev);
        first.is_some_and(|m| self.has_same_bytes(m.address.0, file))
    }

    /// Compares the first page, read by process_vm_readv(2): only the owner may open /proc/PID/mem.
    fn has_same_bytes(&self, address: u64, file: &ProgramFile) -> bool {
        let (mut mapped, mut original) = (vec![0; COMPARED], vec![0; COMPARED]);
        let memory = u32::try_from(self.pid()).map(ProcessMemory::new);
        memory.is_ok_and(|m| m.read(address, &mut mapped).is_ok())
            && file.file().read_exact_at(&mut original, 0).is_ok()
            && mapped == original
    }
}
