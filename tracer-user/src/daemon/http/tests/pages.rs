//! What each page says, and in which form.

use super::*;

#[test]
fn every_page_is_there_and_nothing_else() {
    let server = Server::start(LIMITS, host([full(7, 2)]));
    let metrics = server.get("/metrics", "");
    assert_eq!(status(&metrics), 200);
    assert!(metrics.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert!(body(&metrics).contains("gmpscope_tier{"));
    assert_eq!(body(&server.get("/healthz?verbose", "")), "ok\n");
    assert_eq!(status(&server.get("/readyz", "")), 503);
    server.ready.send_replace(true);
    assert_eq!(status(&server.get("/readyz", "")), 200);
    let config: serde_json::Value = serde_json::from_str(body(&server.get("/health/config", ""))).unwrap();
    assert_eq!(config["source"][0], "/etc/gmpscope/config.toml");
    let targets: serde_json::Value = serde_json::from_str(body(&server.get("/targets", ""))).unwrap();
    let target = &targets["targets"][0];
    assert_eq!(
        (&target["pid"], &target["tier"], &target["why"]),
        (&7.into(), &"sampled".into(), &"exact for a window".into())
    );
    assert_eq!(targets["unreadable"], serde_json::json!([]));
    for path in [
        "/",
        "/metrics/",
        "/metrics/../etc/passwd",
        "/debug/pprof",
        "*",
        "/%6detrics",
    ] {
        let answer = server.get(path, "");
        assert!([400, 404].contains(&status(&answer)), "{path}: {answer}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW", "get"] {
        let request = format!("{method} /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = server.raw(request.as_bytes());
        assert_eq!(status(&answer), 405, "{method}: {answer}");
        assert!(answer.contains("allow: GET, HEAD\r\n"), "{answer}");
    }
    assert_eq!(
        server.value("gmpscope_http_requests_total{path=\"/metrics\",code=\"405\"}"),
        7
    );
    assert!(server.value("gmpscope_http_requests_total{path=\"other\",code=\"404\"}") >= 4);
}

#[test]
fn head_is_get_without_the_page() {
    let server = Server::start(LIMITS, host([target(7)]));
    for path in ["/metrics", "/targets", "/healthz"] {
        let head = server
            .raw(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes());
        assert_eq!((status(&head), body(&head)), (200, ""), "{path}");
        let length = head.split("content-length: ").nth(1).unwrap();
        assert!(length.split("\r\n").next().unwrap().parse::<usize>().unwrap() > 0);
    }
}

#[test]
fn accept_decides_the_format() {
    let server = Server::start(LIMITS, host([full(7, 2)]));
    let open = server.get(
        "/metrics",
        "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n",
    );
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(open.ends_with("# EOF\n"));
    let protobuf = server.get(
        "/metrics",
        "Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited\r\n",
    );
    assert!(protobuf.contains("content-type: application/vnd.google.protobuf; proto=io.prometheus"));
    for strange in [
        "Accept: \u{7f}\r\n",
        "Accept: text/html\r\n",
        "Accept: ;;,,\r\nAccept: \"\r\n",
    ] {
        let answer = server.get("/metrics", strange);
        assert!([200, 400].contains(&status(&answer)), "{answer}");
    }
}

#[test]
fn old_and_impatient_clients_are_served() {
    let server = Server::start(LIMITS, host([target(7)]));
    let old = server.raw(b"GET /healthz HTTP/1.0\r\n\r\n");
    assert_eq!((status(&old), body(&old)), (200, "ok\n"));
    let one = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answers = server.raw([one, one, one, last].concat().as_bytes());
    assert_eq!(
        answers.matches("HTTP/1.1 200 OK").count(),
        4,
        "pipelined: {answers}"
    );
    assert!(answers.find("gmpscope_build_info").unwrap() > answers.rfind("HTTP/1.1").unwrap());
    // A connection is kept, and used again later.
    let mut kept = server.connect();
    for _ in 0..3 {
        kept.write_all(one.as_bytes()).unwrap();
        let mut buffer = [0; 1024];
        let read = kept.read(&mut buffer).unwrap();
        assert!(buffer[..read].ends_with(b"ok\n"));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_loop_that_hangs_is_not_healthy() {
    let mut view = host([target(7)]);
    view.made = Instant::now().checked_sub(Duration::from_secs(61));
    assert!(view.made.is_some());
    let server = Server::start(LIMITS, view);
    assert_eq!(status(&server.get("/healthz", "")), 503);
    let mut view = host([target(7)]);
    view.made = Some(Instant::now());
    server.view.send_replace(Arc::new(view));
    assert_eq!(status(&server.get("/healthz", "")), 200);
}
