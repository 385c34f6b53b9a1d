use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    thread::JoinHandle,
    time::Instant,
};

use tokio::sync::oneshot;

use super::*;
use crate::daemon::{
    metrics::testing::{full, histogram, host, program, spread, target},
    view::TargetView,
};

/// A server on a thread of its own, as the daemon has one.
struct Server {
    address: SocketAddr,
    view: watch::Sender<Arc<HostView>>,
    ready: watch::Sender<bool>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

const LIMITS: Limits = Limits {
    connections: 64,
    timeout: Duration::from_secs(10),
    idle: Duration::from_secs(30),
};

impl Server {
    fn start(limits: Limits, view: HostView) -> Self {
        let (view, seen) = watch::channel(Arc::new(view));
        let (ready, is_ready) = watch::channel(false);
        let health = Health {
            ok: true,
            source: vec!["/etc/gmpscope/config.toml".into()],
            last_loaded: jiff::Timestamp::UNIX_EPOCH,
            sha256: "00".into(),
            watching: true,
            valid: Vec::new(),
            missing: vec!["http.listen"],
            unknown: Vec::new(),
            last_reload: None,
        };
        let pages = Pages {
            view: seen,
            ready: is_ready,
            config: watch::channel(Arc::new(health)).1,
            stale_after: Duration::from_secs(60),
        };
        let (stop, stopped) = oneshot::channel();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(socket).unwrap();
                serve(listener, limits, pages, async {
                    let _ = stopped.await;
                })
                .await;
            });
        });
        Self {
            address,
            view,
            ready,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// Everything that comes back until the connection is closed.
    fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // The other side may answer and close before all is written.
        let _ = stream.write_all(request);
        rest(stream)
    }

    fn get(&self, path: &str, headers: &str) -> String {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n").as_bytes())
    }

    /// The value of a series of the server's own.
    fn value(&self, series: &str) -> u64 {
        let page = self.get("/metrics", "");
        let line = page.lines().find_map(|line| line.strip_prefix(series));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    fn refused(&self, reason: &str) -> u64 {
        self.value(&format!(
            "gmpscope_http_connections_refused_total{{reason=\"{reason}\"}}"
        ))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    // A reset ends it as well: what had come is the answer.
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn status(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap_or_default().1
}

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
        let request = format!("{method} /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
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
        let head =
            server.raw(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes());
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
    let one = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let last = "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
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
        // Whoever goes on writing may be cut off before it reads the answer.
        assert!([431, 0].contains(&status(&answer)), "{answer}");
    }
    assert_eq!(server.refused("too_large"), 3);
    let fits = format!("X: {}\r\n", "x".repeat(super::connection::HEAD_BYTES - 200));
    assert_eq!(status(&server.get("/healthz", &fits)), 200);
    let with_body = server.raw(b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nab");
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
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
    }
    // Pages as small as these need not wait for the large ones, which nobody takes.
    assert_eq!(status(&server.get("/healthz", "")), 200);
    std::thread::sleep(limits.timeout);
    server.view.send_replace(Arc::new(host([target(7)])));
    let began = Instant::now();
    while server.refused("timeout") < lazy.len() as u64 {
        assert!(began.elapsed() < Duration::from_secs(60), "they are still open");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn there_are_no_more_connections_than_may_be() {
    let limits = Limits {
        connections: 4,
        timeout: Duration::from_secs(2),
        ..LIMITS
    };
    let server = Server::start(limits, host([target(7)]));
    let open: Vec<TcpStream> = (0..4).map(|_| server.connect()).collect();
    for _ in 0..20 {
        assert_eq!(rest(server.connect()), "", "one too many is closed at once");
    }
    drop(open);
    let began = Instant::now();
    while status(&server.get("/healthz", "")) != 200 {
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    assert!(server.refused("beyond_limit") >= 20);
}

#[test]
fn an_idle_connection_is_closed_and_not_counted() {
    let limits = Limits {
        idle: Duration::from_millis(300),
        ..LIMITS
    };
    let server = Server::start(limits, host([target(7)]));
    let answer = server.raw(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(body(&answer), "ok\n");
    assert_eq!(server.refused("timeout"), 0);
}

#[test]
fn it_stops_in_time_with_connections_of_every_kind() {
    let mut server = Server::start(LIMITS, host([target(7)]));
    let silent = server.connect();
    let mut kept = server.connect();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
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

/// A real Prometheus that scrapes a server.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(server: &Server, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: gmpscope\n  static_configs:\n  - targets: ['{}']\n",
            server.address
        );
        std::fs::write(&config, text).unwrap();
        // A port that was free a moment ago.
        let address = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .unwrap();
        let child = Command::new(program("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            address,
            _folder: folder,
        }
    }

    /// The value of a query that has one, as soon as it has.
    fn ask(&mut self, query: &str) -> f64 {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let request = format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\n\r\n");
        let mut said = String::new();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(90) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("Prometheus ended: {status}");
            }
            if let Ok(mut stream) = TcpStream::connect(self.address) {
                stream.write_all(request.as_bytes()).unwrap();
                said = rest(stream);
                let answer: serde_json::Value = serde_json::from_str(body(&said)).unwrap_or_default();
                if let Some([one]) = answer["data"]["result"].as_array().map(Vec::as_slice) {
                    return one["value"][1].as_str().unwrap().parse().unwrap();
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("Prometheus has no answer to {query}: {said}");
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process with waits of every scheme, and what they are.
fn observed() -> (TargetView, Vec<u64>) {
    use crate::stream::BucketScheme;
    let waits = spread(5000);
    let mut seen = full(1, 0);
    seen.runtime_waits = Some(histogram(BucketScheme::Go121, &waits));
    seen.exact_waits.clear();
    seen.exact_waits.insert(
        crate::stream::Origin::Created,
        histogram(BucketScheme::Kernel, &waits),
    );
    (seen, waits)
}

#[test]
fn prometheus_reads_native_histograms() {
    let (seen, waits) = observed();
    let server = Server::start(LIMITS, host([seen, full(2, 40)]));
    let mut prometheus = Prometheus::start(&server, &["--enable-feature=native-histograms"]);
    for (name, wide) in [
        // Width of a bucket of the source, and of a native one.
        ("gmpscope_sched_latencies_seconds", 1.25 * 1.0906),
        ("gmpscope_exact_latencies_seconds", 1.0625 * 1.0220),
    ] {
        let series = format!("{name}{{pid=\"1\"}}");
        assert_eq!(prometheus.ask(&format!("histogram_count({series})")), 5000.0);
        for per_mille in [100, 500, 900, 990, 999] {
            let query = format!("histogram_quantile({}, {series})", f64::from(per_mille) / 1000.0);
            let told = prometheus.ask(&query);
            let real = waits[waits.len() * per_mille as usize / 1000 - 1] as f64 / 1e9;
            // The least that it may be: the lower bound of the native bucket that holds the wait itself.
            assert!(
                told <= real * wide && told >= real / 1.0906,
                "{query}: {told}, really {real}"
            );
        }
    }
    assert_eq!(prometheus.ask("up"), 1.0);
    assert_eq!(prometheus.ask("sum(gmpscope_tier{tier=\"sampled\"})"), 2.0);
    let accepted = "gmpscope_http_requests_total{path=\"/metrics\",code=\"200\"}";
    assert!(prometheus.ask(accepted) >= 1.0);
}

#[test]
fn prometheus_reads_classic_histograms() {
    let (seen, waits) = observed();
    let server = Server::start(LIMITS, host([seen, full(2, 40)]));
    let mut prometheus = Prometheus::start(&server, &[]);
    for name in [
        "gmpscope_sched_latencies_seconds",
        "gmpscope_exact_latencies_seconds",
    ] {
        assert_eq!(prometheus.ask(&format!("{name}_count{{pid=\"1\"}}")), 5000.0);
        for per_mille in [100, 500, 900, 990] {
            let quantile = f64::from(per_mille) / 1000.0;
            let told = prometheus.ask(&format!(
                "histogram_quantile({quantile}, {name}_bucket{{pid=\"1\"}})"
            ));
            let real = waits[waits.len() * per_mille as usize / 1000 - 1] as f64 / 1e9;
            assert!(
                told <= real * 1.5 && told >= real / 1.5,
                "{name} {quantile}: {told}, really {real}"
            );
        }
    }
    // Native ones are not there, and that is how the server was started.
    assert_eq!(
        prometheus.ask("count({__name__=\"gmpscope_sched_latencies_seconds\"}) or vector(0)"),
        0.0
    );
}

/// Every query of docs/metrics.md, asked of a Prometheus with native histograms: none is an error.
#[test]
fn the_queries_of_the_metrics_page_are_queries() {
    let server = Server::start(LIMITS, host([full(1, 3)]));
    let mut prometheus = Prometheus::start(&server, &["--enable-feature=native-histograms"]);
    assert_eq!(prometheus.ask("up"), 1.0);
    let page = crate::daemon::metrics::document();
    let queries: Vec<&str> = page
        .split("```promql\n")
        .skip(1)
        .filter_map(|part| part.split("```").next())
        .flat_map(str::lines)
        .collect();
    assert!(queries.len() >= 10, "{queries:?}");
    for query in queries {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let mut stream = TcpStream::connect(prometheus.address).unwrap();
        let request = format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let said = rest(stream);
        let answer: serde_json::Value = serde_json::from_str(body(&said)).unwrap();
        assert_eq!(answer["status"], "success", "{query}: {said}");
    }
}
