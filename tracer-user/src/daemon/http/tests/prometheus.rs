//! A real Prometheus reads the pages.

use std::process::{Child, Command, Stdio};

use super::*;
use crate::daemon::{
    metrics::testing::{histogram, program, spread},
    view::TargetView,
};

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
        // A port that was free just now.
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

    /// Waits until a query has a value, and returns it.
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

/// A process with waits of every scheme, and these waits.
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
        // The width of a bucket of the source, and of a native one.
        ("gmpscope_sched_latencies_seconds", 1.25 * 1.0906),
        ("gmpscope_exact_latencies_seconds", 1.0625 * 1.0220),
    ] {
        let series = format!("{name}{{pid=\"1\"}}");
        assert_eq!(prometheus.ask(&format!("histogram_count({series})")), 5000.0);
        for per_mille in [100, 500, 900, 990, 999] {
            let query = format!("histogram_quantile({}, {series})", f64::from(per_mille) / 1000.0);
            let answer = prometheus.ask(&query);
            let real = waits[waits.len() * per_mille as usize / 1000 - 1] as f64 / 1e9;
            // The least that it may be: the lower bound of the native bucket that holds the wait itself.
            assert!(
                answer <= real * wide && answer >= real / 1.0906,
                "{query}: {answer}, really {real}"
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
            let answer = prometheus.ask(&format!(
                "histogram_quantile({quantile}, {name}_bucket{{pid=\"1\"}})"
            ));
            let real = waits[waits.len() * per_mille as usize / 1000 - 1] as f64 / 1e9;
            assert!(
                answer <= real * 1.5 && answer >= real / 1.5,
                "{name} {quantile}: {answer}, really {real}"
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
