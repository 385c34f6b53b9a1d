//! Those who ask badly, write wrong settings, hide processes, or leave no room for logs: it goes on.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gmpscope_tests::daemon::SEEN;
use gmpscope_tests::exposition::Exposition;
use gmpscope_tests::kernel::bpf_links_of;
use gmpscope_tests::mounted::Mounted;
use gmpscope_tests::{Daemon, Variant, Workload, http, machine, toolchain};
use tempfile::TempDir;

/// Nothing is too dear: whether it is, is another test's question.
const DEAR: &str = "[budget]\ntarget = \"100%\"\ntarget_floor = \"1s\"\nhost = \"100%\"\n";

/// A parked program of its own name, and a rule that names it.
fn target(workload: &str, tier: &str) -> Result<(TempDir, Workload, String)> {
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let path = dir.path().join(workload);
    fs::copy(Variant::Stripped.build(&toolchain::newest()?, workload)?, &path)?;
    let workload = Workload::start(&path, 2, &[])?;
    let rule = format!("[[target]]\nexe = \"{}\"\ntier = \"{tier}\"\n", path.display());
    Ok((dir, workload, rule))
}

#[test]
fn requests_that_are_none() -> Result<()> {
    let _one = machine();
    let mut daemon = Daemon::start("")?;
    let at = daemon.address();
    let long = "x".repeat(1 << 20);
    for (what, bytes, allowed) in [
        (
            "another method",
            "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".into(),
            vec![405],
        ),
        (
            "a method that is none",
            "BREW /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            vec![405, 501],
        ),
        (
            "another path",
            "GET /debug/pprof HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            vec![404],
        ),
        (
            "a path upwards",
            "GET /metrics/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
            vec![400, 404],
        ),
        (
            "a long path",
            format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            vec![400, 414, 431],
        ),
        (
            "a long header",
            format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"),
            vec![400, 431],
        ),
        (
            "many headers",
            format!("GET /metrics HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(5000)),
            vec![400, 431],
        ),
        ("no HTTP", "hello\r\n\r\n".into(), vec![400]),
        (
            "TLS",
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\r\n\r\n".into(),
            vec![400],
        ),
        (
            "two lengths",
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"
                .into(),
            vec![400],
        ),
    ] {
        let bytes: String = bytes;
        // Where the request is understood, its answer ends with the connection.
        let bytes = bytes.replacen(
            "Host: localhost\r\n",
            "Host: localhost\r\nConnection: close\r\n",
            1,
        );
        match http::raw(at, bytes.as_bytes()) {
            Ok(answer) => ensure!(allowed.contains(&answer.status), "{what}: {}", answer.status),
            // It need not answer what is no request, only not keep it.
            Err(error) => ensure!(allowed.contains(&400), "{what}: {error:#}"),
        }
        assert_eq!(daemon.get("/healthz")?.status, 200, "after {what}");
    }
    let head = http::raw(
        at,
        b"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    ensure!(
        head.as_ref()
            .is_ok_and(|answer| [200, 405].contains(&answer.status))
            || head.is_err_and(|error| error.to_string().contains("bytes came")),
        "HEAD"
    );
    ensure!(
        daemon.alive() && !daemon.said().contains("panicked"),
        "{}",
        daemon.said()
    );
    Ok(())
}

#[test]
fn connections_that_never_ask() -> Result<()> {
    let _one = machine();
    let mut daemon = Daemon::start("[http]\nmax_connections = 16\ntimeout = \"2s\"\n")?;
    assert_eq!(daemon.get("/healthz")?.status, 200);
    let before = daemon.holds()?;
    let mut slow: Vec<TcpStream> = Vec::new();
    for n in 0..200 {
        let mut stream = http::connect(daemon.address())?;
        // One half says nothing, the other begins a request and goes on a byte at a time.
        if n % 2 == 0 {
            _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ");
        }
        slow.push(stream);
    }
    let most = daemon.holds()?;
    let sockets = |held: &gmpscope_tests::daemon::Held| held.descriptors.get("socket").copied().unwrap_or(0);
    ensure!(
        sockets(&most) <= sockets(&before) + 16 + 1,
        "{} sockets are open: {:?}",
        sockets(&most),
        most.descriptors
    );
    let end = Instant::now() + Duration::from_secs(15);
    // They give way to whoever comes, though they go on and on.
    let served = loop {
        for stream in slow.iter_mut().step_by(2) {
            _ = stream.write_all(b"x");
        }
        if daemon.get("/healthz").is_ok_and(|answer| answer.status == 200) {
            break true;
        }
        if Instant::now() > end {
            break false;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    ensure!(served, "nobody is served. It said:\n{}", daemon.said());
    std::thread::sleep(Duration::from_secs(3));
    for stream in &mut slow {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        let timed_out = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        ensure!(!timed_out, "a connection is still open");
    }
    let after = daemon.holds()?;
    // The very first request may still have been open when they were counted.
    ensure!(sockets(&after) <= sockets(&before), "{:?}", after.descriptors);
    ensure!(daemon.alive(), "{}", daemon.said());
    Ok(())
}

/// Holds so many connections, half of them with a request that does not end.
fn hold(daemon: &Daemon, count: usize) -> Result<Vec<TcpStream>> {
    let mut held = Vec::new();
    for n in 0..count {
        let mut stream = http::connect(daemon.address())?;
        if n % 2 == 0 {
            // One may have been displaced already.
            _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ");
        }
        held.push(stream);
    }
    Ok(held)
}

/// Asks for each page, and for health several times; none of them has to wait for a timeout.
fn all_pages_are_answered(daemon: &Daemon, within: Duration) -> Result<()> {
    let began = Instant::now();
    for path in [
        "/healthz",
        "/metrics",
        "/targets",
        "/healthz",
        "/readyz",
        "/health/config",
        "/healthz",
    ] {
        let answer = daemon
            .get(path)
            .with_context(|| format!("{path} while others hold connections"))?;
        assert_eq!(answer.status, 200, "{path}");
    }
    ensure!(began.elapsed() < within, "it took {:?}", began.elapsed());
    Ok(())
}

#[test]
fn held_connections_keep_nobody_out() -> Result<()> {
    let _one = machine();
    let mut daemon = Daemon::start("[http]\ntimeout = \"60s\"\n")?;
    let _held = hold(&daemon, 64)?;
    all_pages_are_answered(&daemon, Duration::from_secs(30))?;
    let _more = hold(&daemon, 64)?;
    all_pages_are_answered(&daemon, Duration::from_secs(30))?;
    ensure!(daemon.alive(), "{}", daemon.said());
    Ok(())
}

#[test]
fn few_descriptors_are_enough_for_every_page() -> Result<()> {
    let _one = machine();
    let mut daemon = Daemon::start_with("[http]\ntimeout = \"60s\"\n", |command| {
        let limit = libc::rlimit {
            rlim_cur: 64,
            rlim_max: 64,
        };
        // SAFETY: the closure makes one system call, on memory of its own.
        unsafe {
            command.pre_exec(
                move || match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                },
            );
        }
        Ok(())
    })?;
    let _held = hold(&daemon, 100)?;
    all_pages_are_answered(&daemon, Duration::from_secs(30))?;
    ensure!(daemon.said().contains("LimitNOFILE"), "{}", daemon.said());
    // What it watches needs descriptors, too: those of connections are a small part.
    let sockets = daemon.holds()?.descriptors.get("socket").copied().unwrap_or(0);
    ensure!(sockets < 32, "{sockets} sockets");
    ensure!(daemon.alive(), "{}", daemon.said());
    Ok(())
}

#[test]
fn a_name_that_is_not_ours() -> Result<()> {
    let _one = machine();
    let daemon = Daemon::start("[http]\nhosts = [\"*.example.com\"]\n")?;
    let ask = |path: &str, host: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        http::raw(daemon.address(), request.as_bytes())
    };
    let own = fs::read_to_string("/proc/sys/kernel/hostname")?;
    for path in ["/metrics", "/targets", "/healthz", "/readyz", "/health/config"] {
        for host in [
            "127.0.0.1",
            "localhost:9435",
            "192.0.2.1",
            "[::1]:9435",
            "node.example.com",
            own.trim(),
        ] {
            assert_eq!(ask(path, host)?.status, 200, "{path} of {host}");
        }
        let answer = ask(path, "rebound.example")?;
        assert_eq!(answer.status, 421, "{path}");
        ensure!(answer.text()?.contains("http.hosts"), "{}", answer.text()?);
    }
    Ok(())
}

#[test]
fn a_storm_of_reloads() -> Result<()> {
    let _one = machine();
    let (_dir, mut workload, rule) = target("mixed", "sampled")?;
    let rule = format!("{DEAR}{rule}");
    let mut daemon = Daemon::start(&rule)?;
    daemon.wait_for_tier(workload.pid(), "sampled")?;
    workload.go()?;
    let links = bpf_links_of(daemon.pid())?;
    let before = daemon.holds()?;
    for n in 0..60 {
        match n % 3 {
            0 => daemon.configure(&format!("{rule}[metrics]\ncreation_sites = {}\n", 5 + n))?,
            1 => daemon.configure(&format!("{rule}[metrics]\ncreation_site = {n}\n"))?,
            _ => daemon.replace_config(&b"[tier\xff"[..1 + n % 6])?,
        }
        daemon.signal(libc::SIGHUP);
        std::thread::sleep(Duration::from_millis(20));
    }
    daemon.configure(&format!("{rule}[metrics]\ncreation_sites = 7\n"))?;
    daemon.signal(libc::SIGHUP);
    let health =
        || -> Result<serde_json::Value> { Ok(serde_json::from_str(daemon.get("/health/config")?.text()?)?) };
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let health = health()?;
        let set = health["valid"].to_string().contains("metrics.creation_sites");
        if health["ok"] == true && set {
            break;
        }
        ensure!(
            Instant::now() < end,
            "the last configuration is not in force: {health}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    // Whatever was written, the rule for this program never changed in a configuration that was in force.
    ensure!(
        bpf_links_of(daemon.pid())? == links,
        "its probe was taken away meanwhile:\n{}",
        daemon.said()
    );
    let page = daemon.metrics()?;
    for result in ["ok", "error"] {
        let n = page.sum("gmpscope_config_reloads_total", &[("result", result)]);
        ensure!(n > 0.0, "no reload with result {result}");
    }
    let after = daemon.holds()?;
    assert_eq!(
        after.open(),
        before.open(),
        "{:?}\n{:?}",
        before.descriptors,
        after.descriptors
    );
    // Each reload is one line of JSON.
    let said = daemon.said();
    let lines = said.lines().filter(|line| line.starts_with('{'));
    let reloads = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let reloads: Vec<_> = reloads
        .filter(|line| line.to_string().contains("sha256"))
        .collect();
    ensure!(
        reloads.len() > 5,
        "{} lines about reloads:\n{said}",
        reloads.len()
    );
    ensure!(daemon.alive(), "{}", daemon.said());
    Ok(())
}

#[test]
fn no_room_for_logs() -> Result<()> {
    let _one = machine();
    let (_dir, workload, rule) = target("mixed", "passive")?;
    let mut daemon = Daemon::start_with(&rule, |command| {
        command.stderr(File::options().write(true).open("/dev/full")?);
        Ok(())
    })?;
    daemon.wait_for_tier(workload.pid(), "passive")?;
    // Each of these would be logged.
    for n in 0..5 {
        daemon.configure(&format!("{rule}[metrics]\ncreation_sites = {}\n", 5 + n))?;
        daemon.signal(libc::SIGHUP);
        std::thread::sleep(Duration::from_millis(100));
    }
    daemon.wait_for("a reload", |page| {
        (page.sum("gmpscope_config_reloads_total", &[("result", "ok")]) > 0.0).then_some(())
    })?;
    let (status, _) = daemon.stop()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[test]
fn nobody_reads_the_log() -> Result<()> {
    let _one = machine();
    let (_dir, workload, rule) = target("mixed", "passive")?;
    let mut daemon = Daemon::start_with(&rule, |command| {
        command.arg("-v").stderr(Stdio::piped());
        Ok(())
    })?;
    let pipe = daemon.take_stderr().context("no pipe")?;
    daemon.wait_for_tier(workload.pid(), "passive")?;
    // Each is told of: soon more than the pipe and what is kept beside it hold.
    let mistakes: String = (0..500)
        .map(|n| format!("{}{n} = 1\n", "x".repeat(100)))
        .collect();
    let dropped = [("kind", "log_lines_dropped")];
    let end = Instant::now() + SEEN;
    while daemon.metrics()?.sum("gmpscope_errors_total", &dropped) == 0.0 {
        ensure!(Instant::now() < end, "no line was dropped");
        daemon.replace_config(mistakes.as_bytes())?;
        daemon.signal(libc::SIGHUP);
        std::thread::sleep(Duration::from_millis(50));
    }
    let reloads = |page: &Exposition| page.sum("gmpscope_config_reloads_total", &[("result", "error")]);
    daemon.configure(&rule)?;
    daemon.signal(libc::SIGHUP);
    let failed = daemon.wait_for("a good reload behind the bad ones", |page| {
        (page.sum("gmpscope_config_reloads_total", &[("result", "ok")]) > 0.0).then(|| reloads(page))
    })?;
    ensure!(failed > 0.0);
    ensure!(daemon.get("/healthz")?.status == 200);
    // Who reads at last is told.
    let reader = std::thread::spawn(move || -> Result<String> {
        let (mut pipe, mut text) = (pipe, String::new());
        pipe.read_to_string(&mut text)?;
        Ok(text)
    });
    let (status, took) = daemon.stop()?;
    ensure!(status.success(), "{status}");
    ensure!(took < Duration::from_secs(3), "{took:?}");
    let text = reader
        .join()
        .map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    ensure!(
        text.contains("lines of this log were dropped"),
        "{} bytes",
        text.len()
    );
    Ok(())
}

#[test]
fn a_file_system_that_does_not_answer() -> Result<()> {
    let _one = machine();
    let go = toolchain::newest()?;
    let mounted = Mounted::with(&Variant::Stripped.build(&go, "idle")?)?;
    let silent: Vec<Workload> = (0..3)
        .map(|_| Workload::start(&mounted.program(), 2, &[]))
        .collect::<Result<_>>()?;
    mounted.fall_silent();
    let (_dir, workload, rule) = target("mixed", "passive")?;
    let rules = format!(
        "{rule}[[target]]\nexe = \"{}\"\ntier = \"passive\"\n",
        mounted.program().display()
    );
    let mut daemon = Daemon::start(&rules)?;
    // What is on it takes the looks that may be made at once; then others have their turn.
    daemon.wait_for_tier(workload.pid(), "passive")?;
    daemon.wait_for("word of the file system", |page| {
        (page.sum("gmpscope_errors_total", &[("kind", "file_system_silent")]) > 0.0).then_some(())
    })?;
    let (_other_dir, other, other_rule) = target("idle", "passive")?;
    daemon.configure(&format!("{rules}{other_rule}"))?;
    daemon.wait_for_tier(other.pid(), "passive")?;
    for workload in &silent {
        let pid = workload.pid().to_string();
        ensure!(
            daemon
                .metrics()?
                .find("gmpscope_tier", &[("pid", &pid)])
                .next()
                .is_none()
        );
    }
    mounted.answer();
    for workload in &silent {
        daemon.wait_for_tier(workload.pid(), "passive")?;
    }
    mounted.fall_silent();
    let (status, took) = daemon.stop()?;
    ensure!(
        status.success() && took < Duration::from_secs(3),
        "{status}, {took:?}"
    );
    Ok(())
}

/// Becomes a user that may look into processes, but not into files that are not its own.
const AS_NOBODY: [&str; 6] = [
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--bounding-set=-all,+bpf,+perfmon,+sys_ptrace",
    "--inh-caps=-all,+bpf,+perfmon,+sys_ptrace",
    "--ambient-caps=-all,+bpf,+perfmon,+sys_ptrace",
];

#[test]
fn processes_that_are_hidden() -> Result<()> {
    let _one = machine();
    let (dir, workload, _) = target("mixed", "passive")?;
    let closed = dir.path().join("closed");
    fs::copy(dir.path().join("mixed"), &closed)?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700))?;
    let closed = Workload::start(&closed, 2, &[])?;
    let log = dir.path().join("stderr");
    let rule = format!(
        "[[target]]\nexe = \"{}/*\"\ntier = \"passive\"\n",
        dir.path().display()
    );
    let mut daemon = Daemon::start_with(&rule, |command| {
        // The binary may lie where that user cannot go.
        let binary = dir.path().join("gmpscope");
        fs::copy(command.get_program(), &binary)?;
        let mut hidden = Command::new("unshare");
        hidden
            .args(["--mount", "sh", "-c"])
            .arg("mount -t proc -o hidepid=invisible proc /proc && exec setpriv \"$@\"")
            .arg("sh")
            .args(AS_NOBODY)
            .arg(&binary)
            .args(command.get_args())
            .envs(
                command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        *command = hidden;
        Ok(())
    })
    .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    daemon.wait_for_tier(workload.pid(), "passive")?;
    let pid = closed.pid().to_string();
    let labels = [("pid", pid.as_str()), ("tier", "passive")];
    assert_eq!(daemon.metrics()?.sum("gmpscope_tier", &labels), 0.0);
    // It says what it could not look into, and what that takes.
    let said = || -> Result<String> {
        let log = fs::read_to_string(&log)?;
        Ok(log + daemon.get("/targets")?.text()?)
    };
    ensure!(said()?.contains("CAP_DAC_READ_SEARCH"), "{}", said()?);
    ensure!(daemon.alive(), "{}", fs::read_to_string(&log)?);
    Ok(())
}
