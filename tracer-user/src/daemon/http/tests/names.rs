//! The names that a request may ask for.

use super::*;

#[test]
fn every_page_asks_for_a_name_of_ours() {
    let server = Server::start(LIMITS, host([target(7)]));
    server.ready.send_replace(true);
    let ask = |path: &str, host: &str| {
        server.raw(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())
    };
    for path in ["/metrics", "/targets", "/healthz", "/readyz", "/health/config"] {
        for host in [
            server.address.to_string().as_str(),
            "localhost",
            "[::1]:1",
            "metrics.example.com",
        ] {
            assert_eq!(status(&ask(path, host)), 200, "{path} of {host}");
        }
        for host in ["rebound.example", "127.0.0.1.rebound.example:9435"] {
            let answer = ask(path, host);
            assert_eq!(status(&answer), 421, "{path} of {host}: {answer}");
            assert!(body(&answer).contains("http.hosts"), "{answer}");
            assert!(answer.contains("content-type: text/plain"), "{answer}");
        }
    }
    assert_eq!(status(&ask("/no-such-page", "rebound.example")), 421);
    let without = server.raw(b"GET /targets HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&without), 400, "{without}");
    let absolute = server
        .raw(b"GET http://rebound.example/targets HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&absolute), 421, "{absolute}");
    assert!(server.value("gmpscope_http_requests_total{path=\"/targets\",code=\"421\"}") >= 3);
}
