//! The limits that clients are held to, and which clients are served when they are reached.

use super::*;

#[test]
fn what_is_no_request_is_refused_and_counted() {
    let server = Server::start(LIMITS, host([target(7)]));
    for malformed in [
        "hello\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "GET /metrics HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /metrics HTTP/9.9\r\n\r\n",
        "GET  /metrics\r\n\r\n",
    ] {
        let answer = server.raw(malformed.as_bytes());
        assert_eq!(status(&answer), 400, "{malformed}: {answer}");
    }
    assert_eq!(server.refused("malformed"), 6);
    let long = "x".repeat(super::connection::HEAD_BYTES);
    for large in [
        format!("GET /metrics HTTP/1.1\r\nX: {long}\r\n\r\n"),
        format!("GET /metrics HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(200)),
        format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(1 << 20)),
    ] {
        let answer = server.raw(large.as_bytes());
        // A client that continues to write may be cut off before it reads the answer.
        assert!([431, 0].contains(&status(&answer)), "{answer}");
    }
    assert_eq!(server.refused("too_large"), 3);
    let fits = format!("X: {}\r\n", "x".repeat(super::connection::HEAD_BYTES - 200));
    assert_eq!(status(&server.get("/healthz", &fits)), 200);
    let with_body =
        server.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nab");
    assert_eq!(status(&with_body), 200);
    assert!(with_body.contains("connection: close\r\n"), "{with_body}");
}

#[test]
fn who_only_trickles_is_cut_off() {
    let limits = Limits {
        timeout: Duration::from_millis(700),
        ..LIMITS
    };
    let server = Server::start(limits, host([target(7)]));
    let began = Instant::now();
    let silent = server.connect();
    let mut trickling = server.connect();
    trickling.write_all(b"GET /metrics HTTP/1.1\r\nX: ").unwrap();
    while trickling.write_all(b"x").is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "it is still open");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() >= limits.timeout);
    assert_eq!(rest(silent), "");
    assert_eq!(server.refused("timeout"), 2);
}

#[test]
fn who_does_not_read_its_answer_is_cut_off() {
    let limits = Limits {
        timeout: Duration::from_secs(8),
        ..LIMITS
    };
    // Larger than what two sockets hold.
    let server = Server::start(limits, host((1..60).map(|pid| full(pid, 30))));
    let mut lazy: Vec<TcpStream> = (0..HELD + 1).map(|_| server.connect()).collect();
    for stream in &mut lazy {
        rustix::net::sockopt::set_socket_recv_buffer_size(&*stream, 4096).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
    }
    // Small pages need not wait for the large ones, which nobody reads.
    assert_eq!(status(&server.get("/healthz", "")), 200);
    // Each gets the large page: a connection that is served after the change below would get one that it need not read.
    for stream in &lazy {
        stream.peek(&mut [0]).unwrap();
    }
    std::thread::sleep(limits.timeout);
    server.view.send_replace(Arc::new(host([target(7)])));
    let began = Instant::now();
    while server.refused("timeout") < lazy.len() as u64 {
        assert!(began.elapsed() < Duration::from_secs(60), "they are still open");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Connections that send nothing.
fn silent(server: &Server, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| server.connect()).collect()
}

/// Waits until so many connections are open, that of the query included.
fn wait_for_open(server: &Server, open: u64) {
    let began = Instant::now();
    while server.value("gmpscope_http_connections ") != open {
        assert!(began.elapsed() < Duration::from_secs(20), "there are not {open}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn there_are_no_more_connections_than_may_be() {
    let limits = Limits {
        connections: 4,
        ..LIMITS
    };
    let server = Server::start(limits, host([target(7)]));
    let open = silent(&server, 24);
    wait_for_open(&server, 4);
    assert!(server.refused("beyond_limit") >= 20);
    let mut closed = 0;
    for mut stream in open {
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        closed += usize::from(matches!(stream.read(&mut [0; 1]), Ok(0)));
    }
    // Three of the last are open, and that of the last query.
    assert!((21..24).contains(&closed), "{closed}");
}

#[test]
fn those_that_wait_keep_nobody_out() {
    let server = Server::start(LIMITS, host([target(7)]));
    let began = Instant::now();
    let mut held = silent(&server, LIMITS.connections);
    for stream in held.iter_mut().step_by(2) {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").unwrap();
    }
    for path in ["/healthz", "/metrics", "/targets"] {
        assert_eq!(status(&server.get(path, "")), 200, "{path}");
    }
    assert!(began.elapsed() < LIMITS.timeout, "{:?}", began.elapsed());
    // The one that was kept after its answer is used again: it has not waited as long as the others.
    let mut kept = server.connect();
    for _ in 0..10 {
        kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        let mut buffer = [0; 1024];
        let read = kept.read(&mut buffer).unwrap();
        assert!(buffer[..read].ends_with(b"ok\n"));
        assert_eq!(status(&server.get("/healthz", "")), 200);
    }
}

#[test]
fn health_has_a_reserve_when_all_others_are_busy() {
    let limits = Limits {
        connections: 8,
        timeout: Duration::from_secs(60),
        ..LIMITS
    };
    // Larger than what two sockets hold.
    let server = Server::start(limits, host((1..60).map(|pid| full(pid, 30))));
    let ask_for_metrics = || {
        let mut stream = server.connect();
        rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4096).unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).unwrap();
        stream
    };
    let mut busy: Vec<TcpStream> = (0..limits.connections).map(|_| ask_for_metrics()).collect();
    let began = Instant::now();
    // As soon as all those requests are read, nothing but health is answered.
    let refusal = loop {
        let answer = server.get("/health/config", "");
        if status(&answer) == 503 {
            break answer;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{answer}");
        // This query may have displaced one of them.
        busy.push(ask_for_metrics());
    };
    assert!(body(&refusal).contains("http.max_connections"), "{refusal}");
    let beyond: Vec<TcpStream> = silent(&server, 3 * super::admission::RESERVE);
    for _ in 0..10 {
        let healthy = server.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(status(&healthy), 200, "{healthy}");
        assert!(healthy.contains("connection: close\r\n"), "{healthy}");
    }
    assert!(began.elapsed() < limits.timeout, "{:?}", began.elapsed());
    drop(busy);
    drop(beyond);
    while status(&server.get("/metrics", "")) != 200 {
        assert!(began.elapsed() < limits.timeout, "the others are gone");
    }
}

#[test]
fn few_descriptors_allow_few_connections() {
    assert_eq!(LIMITS.within(1024).connections, 64);
    assert_eq!(LIMITS.within(64).connections, 16);
    assert_eq!(LIMITS.within(3).connections, 4);
    let few = Limits {
        connections: 2,
        ..LIMITS
    };
    assert_eq!(few.within(3).connections, 2, "as the configuration says");
}

#[test]
fn an_idle_connection_is_closed_and_not_counted() {
    let limits = Limits {
        idle: Duration::from_millis(300),
        ..LIMITS
    };
    let server = Server::start(limits, host([target(7)]));
    let answer = server.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(body(&answer), "ok\n");
    assert_eq!(server.refused("timeout"), 0);
}

#[test]
fn it_stops_in_time_with_connections_of_every_kind() {
    let mut server = Server::start(LIMITS, host([target(7)]));
    let silent = server.connect();
    let mut kept = server.connect();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut buffer = [0; 1024];
    assert!(kept.read(&mut buffer).unwrap() > 0);
    let began = Instant::now();
    server.stop.take().unwrap().send(()).unwrap();
    server.thread.take().unwrap().join().unwrap();
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!((rest(silent), rest(kept)), (String::new(), String::new()));
    assert!(TcpStream::connect(server.address).is_err());
    server.thread = Some(std::thread::spawn(|| ()));
}
