//! HTTP clients that send garbage, hold connections or use a wrong name: the daemon keeps answering the others.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gmpscope_tests::{Daemon, http, machine};

#[test]
fn requests_that_are_invalid() -> Result<()> {
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
            "an unknown method",
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
        // Where the request is understood, the connection ends after the answer.
        let bytes = bytes.replacen(
            "Host: localhost\r\n",
            "Host: localhost\r\nConnection: close\r\n",
            1,
        );
        match http::raw(at, bytes.as_bytes()) {
            Ok(answer) => ensure!(allowed.contains(&answer.status), "{what}: {}", answer.status),
            // It need not answer something that is not a request, but must not keep the connection.
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
        daemon.alive() && !daemon.log().contains("panicked"),
        "{}",
        daemon.log()
    );
    Ok(())
}

#[test]
fn connections_that_never_complete_a_request() -> Result<()> {
    let _one = machine();
    let mut daemon = Daemon::start("[http]\nmax_connections = 16\ntimeout = \"2s\"\n")?;
    assert_eq!(daemon.get("/healthz")?.status, 200);
    let before = daemon.holds()?;
    let mut slow: Vec<TcpStream> = Vec::new();
    for n in 0..200 {
        let mut stream = http::connect(daemon.address())?;
        // One half sends nothing, the other begins a request and continues one byte at a time.
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
    // They make room for new connections, though they keep sending.
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
    ensure!(served, "nobody is served. It said:\n{}", daemon.log());
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
    ensure!(daemon.alive(), "{}", daemon.log());
    Ok(())
}

/// Opens this many connections, half of them with a request that does not end.
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

/// Requests each page, and the health page several times; none may have to wait for a timeout.
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
    ensure!(daemon.alive(), "{}", daemon.log());
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
    ensure!(daemon.log().contains("LimitNOFILE"), "{}", daemon.log());
    // Watching needs descriptors, too: connections must get only a small part of them.
    let sockets = daemon.holds()?.descriptors.get("socket").copied().unwrap_or(0);
    ensure!(sockets < 32, "{sockets} sockets");
    ensure!(daemon.alive(), "{}", daemon.log());
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
