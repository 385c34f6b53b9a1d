mod limits;
mod names;
mod pages;
mod prometheus;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread::JoinHandle,
    time::Instant,
};

use tokio::sync::oneshot;

use super::*;
use crate::daemon::{
    config::Health,
    metrics::testing::{full, host, target},
    view::HostView,
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
            hosts: Hosts::new(&["metrics.example.com".into()]),
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
        self.raw(
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")
                .as_bytes(),
        )
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
