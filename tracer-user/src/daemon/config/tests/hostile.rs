//! Hostile files.

use std::time::Instant;

use proptest::prelude::*;

use super::*;

#[test]
fn what_is_no_readable_file_is_said() {
    let folder = Folder::new();
    let said = |folder: &Folder| folder.load().unwrap_err()[0].to_string();
    fs::create_dir(folder.path("config.toml")).unwrap();
    assert!(
        said(&folder).ends_with("config.toml: it is a directory, not a file"),
        "{}",
        said(&folder)
    );
    fs::remove_dir(folder.path("config.toml")).unwrap();
    assert!(said(&folder).ends_with("there is no such file"));
    // Opening a pipe would wait for a writer.
    assert!(
        std::process::Command::new("mkfifo")
            .arg(folder.path("config.toml"))
            .status()
            .unwrap()
            .success()
    );
    assert!(said(&folder).ends_with("it is not a plain file"));
    fs::remove_file(folder.path("config.toml")).unwrap();
    std::os::unix::fs::symlink("config.toml", folder.path("config.toml")).unwrap();
    assert!(said(&folder).contains("cannot be read"), "{}", said(&folder));
    fs::remove_file(folder.path("config.toml")).unwrap();

    folder.write("config.toml", "");
    std::os::unix::fs::symlink("nowhere", folder.path("conf.d/x.toml")).unwrap();
    assert!(said(&folder).ends_with("x.toml: there is no such file"));
    fs::remove_file(folder.path("conf.d/x.toml")).unwrap();
    fs::create_dir(folder.path("conf.d/y.toml")).unwrap();
    assert!(said(&folder).ends_with("y.toml: it is a directory, not a file"));
    fs::remove_dir_all(folder.path("conf.d")).unwrap();
    folder.write("conf.d", "");
    assert!(said(&folder).ends_with("conf.d: it is a file, not a directory"));
}

#[test]
fn bytes_that_are_not_utf8_have_a_place() {
    assert_eq!(
        mistakes(b"a\n\n  \xff = 1"),
        ["config.toml:3:3: not UTF-8, which TOML is: save the file in this encoding"]
    );
}

#[test]
fn a_huge_file_is_not_read() {
    let folder = Folder::new();
    folder.write("config.toml", "");
    let huge = fs::File::create(folder.path("conf.d/huge.toml")).unwrap();
    huge.set_len(100 << 20).unwrap();
    // rchar of proc(5): what this thread has read.
    let read = || {
        let io = fs::read_to_string("/proc/thread-self/io").unwrap();
        io.lines()
            .find_map(|line| line.strip_prefix("rchar: "))
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let before = read();
    let found = folder.load().unwrap_err();
    assert!(found[0].problem.contains("more than 1048576 bytes"), "{found:?}");
    assert!(read() - before < 2 << 20, "{} bytes were read", read() - before);
    // Many small files do not circumvent the limit.
    fs::remove_file(folder.path("conf.d/huge.toml")).unwrap();
    for number in 0..12 {
        folder.write(&format!("conf.d/{number}.toml"), "#".repeat(100_000));
    }
    assert!(folder.load().unwrap_err()[0].problem.contains("bytes together"));
}

#[test]
fn depth_and_number_are_bounded() {
    let many = 100_000;
    for text in [
        "[".repeat(many),
        format!("a = {}", "[".repeat(many)),
        format!("a = {}1{}", "[".repeat(many), "]".repeat(many)),
        format!("a = {}", "{a=".repeat(many)),
        format!("{}a = 1", "a.".repeat(many)),
        format!("[{}a]", "a.".repeat(many)),
        format!("http.{}a = 1", "a.".repeat(many)),
        format!("{} = 1", "a".repeat(many)),
        format!("http.listen = \"{}\"", "x".repeat(many)),
        format!("budget.host = \"{}\"", "9".repeat(many)),
        format!("budget.host = 0.{}e9", "9".repeat(many)),
        format!("http.max_connections = {}", "9".repeat(many)),
        format!("http.timeout = \"{}s\"", "9".repeat(many)),
        format!("init.include = [\"{}\"]", "?".repeat(many)) + "x",
        format!("init.include = [{}]", "1,".repeat(many)),
        "= ] ".repeat(many / 2),
        "a = 1\n".repeat(many / 2),
        (0..many / 10).map(|number| format!("k{number} = 1\n")).collect(),
        "[[target]]\n".repeat(many / 4),
        format!("target = [{}]", "{},".repeat(many)),
        "\0".repeat(many),
        "\u{1b}[2J = 1".to_owned(),
    ] {
        let start: String = text.chars().take(20).collect();
        let before = Instant::now();
        let found = mistakes(&text);
        assert!(found.len() <= mistake::MOST + 1, "{start}: {}", found.len());
        for line in &found {
            assert!(line.chars().count() < 500, "{start}: {line}");
            assert!(!line.chars().any(crate::escape::is_dangerous), "{line:?}");
        }
        assert!(before.elapsed().as_secs() < 60, "{start}: {:?}", before.elapsed());
    }
    let last = mistakes("a.b = 1\n".repeat(1_000)).pop().unwrap();
    assert_eq!(last, "config.toml:101:3: and 900 more mistakes from here on");
}

proptest! {
    #[test]
    fn nothing_panics(bytes: Vec<u8>) {
        let folder = Folder::new();
        let _ = folder.write("config.toml", bytes).load();
    }

    #[test]
    fn nothing_panics_on_what_is_almost_a_configuration(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("[http]\n"), Just("[[target]]\n"), Just("listen"), Just("timeout"), Just("="), Just("\"10s\""),
                Just("\n"), Just("{"), Just("}"), Just("["), Just("]"), Just("."), Just(","), Just("exe"), Just("#"),
                Just("target"), Just("budget"), Just("ä"), Just("\""), Just("'''"), Just("-1"), Just("0.5"),
                Just("init.include"),
            ],
            0..40,
        ),
    ) {
        let folder = Folder::new();
        let _ = folder.write("config.toml", parts.concat()).load();
    }
}
