use std::fs::{self, File};

use super::*;

#[test]
fn a_result_is_written_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.json");
    fs::write(&path, "before").unwrap();
    let mut sink = Sink::open(Some(&path)).unwrap();
    assert_eq!(sink.result("half").unwrap(), Flow::Written);
    assert_eq!(fs::read_to_string(&path).unwrap(), "before");
    drop(sink);
    assert_eq!(fs::read_to_string(&path).unwrap(), "before");

    let mut sink = Sink::open(Some(&path)).unwrap();
    assert_eq!(sink.result("new ").unwrap(), Flow::Written);
    assert_eq!(sink.result("text").unwrap(), Flow::Written);
    sink.finish_now().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new text");
    let names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["out.json"]);
}

#[test]
fn lines_are_written_as_they_come_and_the_result_after_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    fs::write(&path, "before").unwrap();
    let mut sink = Sink::open(Some(&path)).unwrap();
    assert_eq!(sink.line("a line\n").unwrap(), Flow::Written);
    let ends = std::time::Instant::now() + Duration::from_secs(20);
    while fs::read_to_string(&path).unwrap() != "a line\n" {
        assert!(std::time::Instant::now() < ends, "it does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(sink.result("the result\n").unwrap(), Flow::Written);
    sink.finish_now().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "a line\nthe result\n");
}

#[test]
fn a_link_is_written_through() {
    let directory = tempfile::tempdir().unwrap();
    let (path, link) = (directory.path().join("out"), directory.path().join("link"));
    fs::write(&path, "before").unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let mut sink = Sink::open(Some(&link)).unwrap();
    assert_eq!(sink.result("after").unwrap(), Flow::Written);
    sink.finish_now().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "after");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn devices_are_written_directly_and_a_full_one_is_an_error() {
    let mut null = Sink::open(Some(Path::new("/dev/null"))).unwrap();
    assert_eq!(null.result("text").unwrap(), Flow::Written);
    null.finish_now().unwrap();
    let mut full = Sink::open(Some(Path::new("/dev/full"))).unwrap();
    let _ = full.result("text");
    let error = full.finish_now().unwrap_err();
    assert!(
        error.message.contains("/dev/full") && error.message.contains("No space"),
        "{error}"
    );
}

fn fifo(path: &Path) {
    let status = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_reader_that_is_gone_is_not_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    fifo(&path);
    let reader = std::thread::spawn({
        let path = path.clone();
        move || drop(File::open(path).unwrap())
    });
    let mut sink = Sink::open(Some(&path)).unwrap();
    reader.join().unwrap();
    let ends = std::time::Instant::now() + Duration::from_secs(20);
    while sink.line("text").unwrap() == Flow::Written {
        assert!(std::time::Instant::now() < ends, "it is not noticed");
        std::thread::sleep(Duration::from_millis(1));
    }
    sink.finish_now().unwrap();
    assert!(path.exists());
}

#[test]
fn lines_that_nobody_reads_are_dropped_and_counted_and_the_result_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    fifo(&path);
    let reader = File::options().read(true).write(true).open(&path).unwrap();
    let mut sink = Sink::open(Some(&path)).unwrap();
    let line = "x".repeat(64 << 10);
    for _ in 0..100 {
        assert_eq!(sink.line(&line).unwrap(), Flow::Written);
    }
    let dropped = sink.dropped();
    assert!((60..100).contains(&dropped), "{dropped}");
    assert_eq!(sink.result("the result").unwrap(), Flow::Written);
    let closing = sink.finish().unwrap();
    // Now it is read after all.
    let read = std::thread::spawn(move || {
        use std::io::Read as _;
        let mut text = vec![0; (100 - dropped as usize) * (64 << 10) + 10];
        (&reader).read_exact(&mut text).unwrap();
        text
    });
    assert!(closing.writer.as_ref().unwrap().wait(None));
    closing.result().unwrap();
    assert!(read.join().unwrap().ends_with(b"xthe result"));
}

#[test]
fn a_waiting_sink_drops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    fifo(&path);
    let read = std::thread::spawn({
        let path = path.clone();
        move || fs::read(path).unwrap().len()
    });
    let mut sink = Sink::open(Some(&path)).unwrap().waiting();
    for _ in 0..100 {
        assert_eq!(sink.line(&"x".repeat(64 << 10)).unwrap(), Flow::Written);
    }
    assert_eq!(sink.dropped(), 0);
    sink.finish_now().unwrap();
    assert_eq!(read.join().unwrap(), 100 * (64 << 10));
}

#[test]
fn a_file_that_cannot_be_made_fails_at_once() {
    let error = Sink::open(Some(Path::new("/nonexistent/out.json"))).unwrap_err();
    assert!(error.message.contains("/nonexistent/out.json"), "{error}");
}
