use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::binary::testing::{Build, Go};
use crate::error::Failure;
use crate::{binary::Code, process::Target};

/// A test program that waits for its input; killed when dropped.
struct Running(Child);

impl Running {
    fn start(program: &Path) -> Self {
        let child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let link = format!("/proc/{}/exe", child.id());
        let deadline = Instant::now() + Duration::from_secs(30);
        // Until exec is done the process is still a copy of this one.
        while fs::read_link(&link).ok().as_deref() != Some(program) {
            assert!(Instant::now() < deadline, "{} did not start", program.display());
            std::thread::sleep(Duration::from_millis(1));
        }
        Self(child)
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    fn stop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

fn refused(pid: i32, failure: Failure, words: &[&str]) {
    let error = Process::open(pid).unwrap_err();
    assert_eq!(error.failure, failure, "{error}");
    for word in words {
        assert!(error.message.contains(word), "{word:?} is not in: {error}");
    }
}

#[test]
fn what_is_no_process_to_trace() {
    refused(0, Failure::Usage, &["not a PID"]);
    refused(-5, Failure::Usage, &["not a PID"]);
    refused(
        i32::MAX,
        Failure::NotTraceable,
        &["no process", &i32::MAX.to_string()],
    );
    let mut child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !fs::read_to_string(format!("/proc/{pid}/stat"))
        .unwrap()
        .contains(") Z ")
    {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
    refused(pid, Failure::NotTraceable, &["zombie"]);
    child.wait().unwrap();
    refused(pid, Failure::NotTraceable, &["no process"]);
    let thread = std::thread::spawn(|| {
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        let ours = std::process::id().to_string();
        refused(tid, Failure::NotTraceable, &["thread of process", &ours]);
    });
    thread.join().unwrap();
}

#[test]
fn a_process_that_is_not_go() {
    let error = Target::of_process(i32::try_from(std::process::id()).unwrap(), |_, _| Ok(())).unwrap_err();
    assert!(error.message.contains("not a Go program"), "{error}");
}

/// A program in C that has loaded a Go library: the message names the library.
#[test]
fn a_process_with_go_in_a_library() {
    let library = Go::newest().build(Build::CShared);
    let dir = tempfile::tempdir_in(library.parent().unwrap()).unwrap();
    let (source, host) = (dir.path().join("host.c"), dir.path().join("host"));
    let text = "#include <dlfcn.h>\n#include <unistd.h>\n\
        int main(int c, char **v) { if (c < 2 || !dlopen(v[1], RTLD_NOW)) return 1; puts(\"loaded\"); \
        fflush(stdout); pause(); return 0; }\n";
    fs::write(&source, format!("#include <stdio.h>\n{text}")).unwrap();
    let status = Command::new("cc")
        .arg("-o")
        .args([&host, &source])
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(status.success());
    let mut child = Command::new(&host)
        .arg(&library)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(child.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    assert_eq!(line, "loaded\n");
    let running = Running(child);
    let error = Target::of_process(running.pid(), |_, _| Ok(())).unwrap_err();
    assert_eq!(error.failure, Failure::NotTraceable);
    for word in [
        "shared library",
        library.to_str().unwrap(),
        host.to_str().unwrap(),
    ] {
        assert!(error.message.contains(word), "{word:?} is not in: {error}");
    }
}

/// The load bias leads to the very bytes of the file, in all kinds of programs.
#[test]
fn code_is_where_the_load_bias_says() {
    let go = Go::newest();
    for build in [
        Build::Static,
        Build::PieStripped,
        Build::Cgo,
        Build::CgoPieStripped,
    ] {
        let running = Running::start(&go.build(build));
        let (target, (start, code)) = Target::of_process(running.pid(), |_, binary| {
            let [f] = binary.functions("runtime.casgstatus").try_into().unwrap();
            Ok((f.start, binary.code_of(&f).unwrap().to_vec()))
        })
        .unwrap();
        assert_eq!(
            target.load_bias == 0,
            matches!(build, Build::Static | Build::Cgo),
            "{build:?}"
        );
        let memory = std::fs::File::open(format!("/proc/{}/mem", running.pid())).unwrap();
        let mut live = vec![0; code.len()];
        memory.read_exact_at(&mut live, target.in_process(start)).unwrap();
        assert!(live == code, "{build:?}");
        assert_eq!(target.link_time(target.in_process(start)), start);
        assert!(target.still_runs().unwrap());
    }
}

/// A file with the same shape but another inode is not what the process executes.
#[test]
fn the_mapped_file_must_be_the_decoded_one() {
    let path = Go::newest().build(Build::Static);
    let running = Running::start(&path);
    let process = Process::open(running.pid()).unwrap();
    let copy = tempfile::NamedTempFile::new_in(path.parent().unwrap()).unwrap();
    fs::copy(&path, copy.path()).unwrap();
    let file = ProgramFile::open(copy.path()).unwrap();
    let mapping = file.map().unwrap();
    let image = crate::binary::image::Image::parse(&mapping, "copy").unwrap();
    let error = process.load_bias(&file, image.segments()).unwrap_err();
    assert!(error.message.contains("another file"), "{error}");
}

/// The program may be replaced or deleted on disk while it runs.
#[test]
fn a_replaced_program_is_read_as_it_runs() {
    let original = Go::newest().build(Build::Stripped);
    let dir = tempfile::tempdir_in(original.parent().unwrap()).unwrap();
    let path = dir.path().join("service");
    fs::copy(&original, &path).unwrap();
    let running = Running::start(&path);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "something else").unwrap();
    let (target, functions) =
        Target::of_process(running.pid(), |_, binary| Ok(binary.runtime_functions().len())).unwrap();
    assert!(functions > 900);
    assert_ne!(FileId::of(&fs::metadata(&path).unwrap()), target.file.id());
    let found = by_exe(&path).unwrap();
    assert_eq!(found.iter().map(|f| f.pid).collect::<Vec<_>>(), [running.pid()]);
}

#[test]
fn identity_threads_and_cpu_time() {
    let path = Go::newest().build(Build::Static);
    let mut running = Running::start(&path);
    let process = Process::open(running.pid()).unwrap();
    assert_eq!(process.comm(), "program");
    assert!(process.threads().unwrap().contains(&running.pid()));
    assert!(process.start_time() > 0 && !process.has_ended() && !process.in_other_mount_namespace());
    assert!(!process.has_execed());
    let exe = process.exe().unwrap();
    assert_eq!(exe.id(), process.exe_id().unwrap());
    assert!(
        by_comm("program")
            .unwrap()
            .iter()
            .any(|f| f.pid == running.pid() && f.comm == "program")
    );
    assert!(
        by_exe(&path)
            .unwrap()
            .iter()
            .any(|f| f.start_time == process.start_time())
    );
    // Some CPU time, no more than has gone by on all CPUs.
    let cpu = process.cpu_time_ns().unwrap();
    assert!(cpu > 0 && cpu < 60_000_000_000, "{cpu}");
    running.stop();
    assert!(process.has_ended());
    assert!(process.cpu_time_ns().unwrap_err().message.contains("has ended"));
    assert!(process.threads().is_err() && process.exe().is_err() && process.exe_id().is_err());
}

/// The CPU clock counts what the process burns, not what goes by.
#[test]
fn cpu_time_is_exact() {
    let ourselves = Process::open(i32::try_from(std::process::id()).unwrap()).unwrap();
    let own = || {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        u64::try_from(t.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(t.tv_nsec).unwrap()
    };
    let (before, cpu, after) = (own(), ourselves.cpu_time_ns().unwrap(), own());
    assert!(before <= cpu && cpu <= after, "{before} {cpu} {after}");
}

#[test]
fn cgroup_limits() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    assert_eq!(cgroup::unified_limit(dir.path()), None);
    write("cpu.max", "max 100000\n");
    assert_eq!(cgroup::unified_limit(dir.path()), None);
    write("cpu.max", "150000 100000\n");
    assert_eq!(cgroup::unified_limit(dir.path()), Some(1.5));
    write("cpu.cfs_period_us", "100000\n");
    write("cpu.cfs_quota_us", "-1\n");
    assert_eq!(cgroup::legacy_limit(dir.path()), None);
    write("cpu.cfs_quota_us", "25000\n");
    assert_eq!(cgroup::legacy_limit(dir.path()), Some(0.25));
}

/// A process that executes another program explains whatever went wrong about it by that, and one that ends, too.
#[test]
fn what_has_become_of_a_process_comes_before_what_it_looks_like() {
    let mut child = Command::new("/bin/sh")
        .args(["-c", "read line; exec sleep 60"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let process = loop {
        let process = Process::open(pid).unwrap();
        // Not what the test itself is, before its own execve.
        if process.comm() == "sh" {
            break process;
        }
    };
    let shell = process.exe_id().unwrap();
    let symptom = || Error::failed("something is not where it should be");
    assert_eq!(process.fate(Some(shell)), Fate::Unchanged);
    assert_eq!(process.explain(symptom(), Some(shell)), symptom());
    process.unchanged(shell).unwrap();

    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"\n").unwrap();
    while process.exe_id().unwrap() == shell {
        std::thread::yield_now();
    }
    // With and without knowing what it ran.
    for file in [Some(shell), None] {
        assert_eq!(process.fate(file), Fate::Executed);
        let error = process.explain(symptom(), file);
        assert_eq!(error.failure, Failure::NotTraceable);
        assert!(error.message.contains("(sh) executed another program"), "{error}");
    }
    assert!(process.unchanged(shell).is_err());
    // For who opens it now it is what it is.
    let sleeps = Process::open(pid).unwrap();
    assert_eq!(sleeps.fate(Some(sleeps.exe_id().unwrap())), Fate::Unchanged);

    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(process.fate(Some(shell)), Fate::Ended);
    let error = process.explain(symptom(), Some(shell));
    assert!(
        error.message.contains("ended while gmpscope looked at it"),
        "{error}"
    );
}

/// Names may hold any bytes, in the file's path and in the process's own name.
#[test]
fn a_name_that_is_not_utf8_hides_nothing() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir
        .path()
        .join(std::ffi::OsStr::from_bytes(b"a\xff\n\x1b[2J) S 1"));
    fs::copy(Go::newest().build(Build::Static), &path).unwrap();
    let running = Running::start(&path);
    let (target, _) = Target::of_process(running.pid(), |_, _| Ok(())).unwrap();
    let process = target.process.as_ref().unwrap();
    assert_eq!(process.comm(), "a\u{fffd}\n\u{1b}[2J) S 1");
    assert_eq!(process.comm().to_string(), "a\u{fffd}\\u{a}\\u{1b}[2J) S 1");
    assert!(target.file.name().raw().ends_with("/a\u{fffd}\n\u{1b}[2J) S 1"));
    let scanned = crate::daemon::discovery::scan::scan().unwrap();
    let pid = running.pid().unsigned_abs();
    assert!(
        scanned.iter().any(|scanned| scanned.pid == pid),
        "the daemon does not see it"
    );
    assert_eq!(by_exe(&path).unwrap().len(), 1);
}

/// A process whose first thread has ended, and another lives on.
#[test]
fn a_process_without_its_first_thread_is_read_through_another() {
    let dir = tempfile::tempdir().unwrap();
    let (source, program) = (dir.path().join("leaderless.c"), dir.path().join("leaderless"));
    let text = "#include <pthread.h>\n#include <unistd.h>\n\
        static const char word[8] = \"leader\";\n\
        static void *wait(void *unused) { for (;;) pause(); return unused; }\n\
        int main(void) { pthread_t thread; if (pthread_create(&thread, 0, wait, 0)) return 1; \
        pthread_exit((void *)word); }\n";
    fs::write(&source, text).unwrap();
    let status = Command::new("cc")
        .arg("-o")
        .args([&program, &source])
        .arg("-lpthread")
        .status()
        .unwrap();
    assert!(status.success());
    let mut running = Running(Command::new(&program).spawn().unwrap());
    let pid = running.pid();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !fs::read_to_string(format!("/proc/{pid}/stat"))
        .unwrap()
        .contains("(leaderless) Z ")
    {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(
        fs::read_link(format!("/proc/{pid}/exe")).is_err(),
        "it is not what it was"
    );
    let process = Process::open(pid).unwrap();
    let exe = process.exe().unwrap();
    assert_eq!(exe.id(), FileId::of(&fs::metadata(&program).unwrap()));
    assert_eq!(exe.id(), process.exe_id().unwrap());
    assert!(!process.has_ended() && !process.has_execed());
    assert_eq!(process.fate(Some(exe.id())), Fate::Unchanged);
    assert_eq!(process.threads().unwrap().len(), 2);
    assert!(process.clock_offset().is_some());
    let mapped = process.libraries(FileId { device: 0, inode: 0 }).unwrap();
    let first = mapped
        .iter()
        .find(|mapped| mapped.path == program)
        .expect("its own code is mapped");
    let memory = memory::ProcessMemory::new(pid.unsigned_abs());
    let mut bytes = [0; 8];
    memory::Memory::read(&memory, first.address.0, &mut bytes).unwrap();
    assert_eq!(by_exe(&program).unwrap().len(), 1);
    assert!(
        by_comm("leaderless")
            .unwrap()
            .iter()
            .any(|found| found.pid == pid)
    );
    let scanned = crate::daemon::discovery::scan::scan().unwrap();
    let seen = scanned
        .iter()
        .find(|scanned| scanned.pid == pid.unsigned_abs())
        .unwrap();
    assert_eq!(seen.exe, Some((exe.id().device, exe.id().inode)));

    running.stop();
    assert!(process.has_ended());
    assert_eq!(process.fate(Some(exe.id())), Fate::Ended);
    let gone = memory::Memory::read(&memory, first.address.0, &mut bytes);
    assert_eq!(
        gone,
        Err(memory::ReadError::Gone {
            pid: pid.unsigned_abs()
        })
    );
}

/// Two letters of UTF-8, and half of a third.
#[test]
fn a_name_is_compared_as_far_as_the_kernel_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("планировщик");
    fs::copy(Go::newest().build(Build::Static), &path).unwrap();
    let running = Running::start(&path);
    let found = by_comm("планировщик").unwrap();
    assert_eq!(
        found.iter().map(|found| found.pid).collect::<Vec<_>>(),
        [running.pid()]
    );
    assert_eq!(found[0].comm, "планиро\u{fffd}");
    assert_eq!(Process::open(running.pid()).unwrap().comm(), "планиро\u{fffd}");
}
