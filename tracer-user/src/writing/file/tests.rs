use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

use super::*;

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_new_file_is_its_owners_and_has_no_name_before_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new");
    let mut file = OutputFile::open(&path).unwrap();
    assert_eq!(names(folder.path()), Vec::<String>::new());
    file.replace(b"text").unwrap();
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), b"text");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(names(folder.path()), ["new"]);
}

#[test]
fn a_file_that_was_there_keeps_its_mode_owner_and_links() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other, link) = (
        folder.path().join("old"),
        folder.path().join("hard"),
        folder.path().join("soft"),
    );
    for named in [&path, &link] {
        let _ = fs::remove_file(&path);
        let _ = fs::remove_file(&other);
        fs::write(&path, "a longer text than the new one").unwrap();
        fs::hard_link(&path, &other).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        // Only root may; for others it is theirs anyway.
        let _ = chown(&path, Some(65_534), Some(1));
        let _ = symlink("old", &link);
        let before = fs::metadata(&path).unwrap();
        let mut file = OutputFile::open(named).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "a longer text than the new one"
        );
        file.replace(b"short").unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"short");
        assert_eq!(
            (before.mode(), before.uid(), before.gid(), before.ino()),
            (after.mode(), after.uid(), after.gid(), after.ino())
        );
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}

#[test]
fn nothing_is_left_of_what_was_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new");
    drop(OutputFile::open(&path).unwrap());
    let mut begun = OutputFile::open(&path).unwrap();
    begun.begin().unwrap();
    assert_eq!(names(folder.path()), ["new"]);
    drop(begun);
    assert_eq!(names(folder.path()), Vec::<String>::new());
    // What somebody else has put there meanwhile stays.
    let mut begun = OutputFile::open(&path).unwrap();
    begun.begin().unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "other").unwrap();
    drop(begun);
    assert_eq!(fs::read(&path).unwrap(), b"other");
}

#[test]
fn what_comes_meanwhile_under_the_same_name_is_written_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let mut file = OutputFile::open(&path).unwrap();
    fs::write(&path, "from somebody else, and longer").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    file.replace(b"ours").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"ours");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
}

#[test]
fn two_captures_do_not_write_into_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let (mut one, mut other) = (OutputFile::open(&path).unwrap(), OutputFile::open(&path).unwrap());
    one.begin().unwrap();
    assert!(other.begin().unwrap_err().to_string().contains("another capture"));
    assert!(
        OutputFile::open(&path)
            .unwrap_err()
            .to_string()
            .contains("another capture")
    );
}

#[test]
fn names_that_cannot_be_files_are_refused() {
    for path in ["/nonexistent/out", "/tmp/no-such-folder/", "/tmp", ""] {
        assert!(OutputFile::open(Path::new(path)).is_err(), "{path:?}");
    }
}
