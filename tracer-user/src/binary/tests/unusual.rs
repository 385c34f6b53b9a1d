//! Programs that other linkers, packers and vendors have made, and that are traced like any.

use super::wipe;
use crate::binary::testing::{Build, Go};
use crate::binary::*;

/// Older C linkers put read-only data into the segment of the code, and packers everything into one: the same is found
/// there, also without section headers and build information.
#[test]
fn segments_may_all_be_executable() {
    for go in Go::all() {
        for build in [Build::Stripped, Build::PieStripped, Build::Arm64] {
            let mut data = std::fs::read(go.build(build)).unwrap();
            let names = GoBinary::parse(&data, "test")
                .unwrap()
                .runtime_functions()
                .to_vec();
            data[40..48].fill(0);
            data[60..64].fill(0);
            // e_phoff, e_phnum; p_type, p_flags.
            let table = usize::try_from(image::word(&data[32..40])).unwrap();
            let count = usize::from(u16::from_le_bytes([data[56], data[57]]));
            let mut changed = 0;
            for at in (0..count).map(|n| table + n * 56) {
                if data[at..at + 4] == [1, 0, 0, 0] {
                    changed += usize::from(data[at + 4] & 1 == 0);
                    data[at + 4] |= 1;
                }
            }
            assert!(changed >= 2, "{} {build:?}", go.version);
            let what = format!("{} {build:?}", go.version);
            let binary = GoBinary::parse(&data, &what).unwrap();
            assert_eq!(binary.runtime_functions(), names, "{what}");
            assert_eq!(binary.facts().main_path.as_deref(), Some("example.org/program"));
            wipe(&mut data, b"\xff Go buildinf:");
            let binary = GoBinary::parse(&data, &what).unwrap();
            assert_eq!(binary.facts().version.raw, go.version, "{what}");
        }
    }
}

/// A vendor's version in the build information, and in the variable of a program without that.
#[test]
fn versions_of_vendors_are_found() {
    for go in Go::all() {
        let length = go.version.len();
        // Nothing else in the file may move.
        let version = format!("{}-x", &go.version[..length - 2]);
        let expected = GoVersion::parse(&version).unwrap();
        assert_eq!(expected.minor, go.minor);
        assert!(expected.vendor_or_prerelease.is_some());
        let mut data = std::fs::read(go.build(Build::Stripped)).unwrap();
        let at: Vec<usize> = memchr::memmem::find_iter(&data, go.version.as_bytes()).collect();
        for at in at {
            data[at..at + length].copy_from_slice(version.as_bytes());
        }
        let binary = GoBinary::parse(&data, "test").unwrap();
        assert_eq!(binary.facts().version, expected);
        wipe(&mut data, b"\xff Go buildinf:");
        let binary = GoBinary::parse(&data, "test").unwrap();
        assert_eq!(binary.facts().version, expected);
    }
}
