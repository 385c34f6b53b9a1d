//! The daemon's one loop: it waits for whatever comes next, and has the host deal with it.

use std::{
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot, watch},
};

use super::{
    config::{Config, Health, Layers, Loaded, Reloader, Tier},
    host::Host,
    http::{self, Hosts, Limits, Pages},
    systemd,
    view::HostView,
};
use crate::{
    bpf::Capacity,
    clock::now_ns,
    error::{Error, Result},
    kernel::privilege::{Need, Privileges, advice},
    sources::host::HostKernel,
};

/// What is shown is renewed this often.
const VIEW_NS: u64 = 1_000_000_000;
/// After a target has come or gone, it is renewed at the next multiple of this: the loop turns then in any case.
const SOON_NS: u64 = 250_000_000;
/// A loop that has not turned for so long hangs: `/healthz` says so.
const STALE: Duration = Duration::from_secs(30);
/// How long answers that are being sent may hold up our end.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// Processes, and binaries whose starts are timed, that are probed at once at most.
const MOST_PROBED: u32 = 512;
/// The loop turns at least this often.
const LONGEST: Duration = Duration::from_secs(10);

/// Watches the host until SIGTERM or SIGINT.
///
/// # Errors
/// The configuration has mistakes, the address to serve on cannot be had, or processes may not be looked into.
pub async fn run(layers: Layers) -> Result<()> {
    let mut reloader = Reloader::start(layers)?;
    let loaded = reloader.loaded();
    let config = Arc::clone(&loaded.config);
    may_look_into_processes()?;
    raise_open_files();
    let listener = listener(&config).await?;
    let address = listener.local_addr().ok();
    let mut signals = Signals::new()?;
    let (words, mut heard) = mpsc::unbounded_channel();
    let mut has_room = probes(&config);
    let (kernel, is_told) = kernel_side(&config);
    let mut host = Host::new(config, kernel, is_told, words)?;
    let ends = watched(host.ends_fd())?;
    let mut events = host.events_fd().map(watched).transpose()?;
    let mut clocks = Clocks::new();
    let (shows, pages) = Shows::new(&reloader);
    let (stop, stopped) = oneshot::channel();
    let limits = Limits::new(&loaded.config.http);
    let mut serving = tokio::spawn(http::serve(listener, limits, pages, async {
        // Also when the loop is gone in whatever way.
        let _ = stopped.await;
    }));
    log::info!(
        "watching Go processes; metrics on {}",
        address.map_or_else(
            || "a socket that was handed over".to_owned(),
            |address| format!("http://{address}/metrics")
        )
    );
    loop {
        let wait = clocks.until(host.next_due());
        tokio::select! {
            biased;
            name = signals.end() => {
                log::info!("{name}: ending");
                break;
            }
            trigger = reloader.due() => {
                systemd::reloading();
                let reload = reloader.reload(trigger);
                if !reload.changed.is_empty() {
                    let config = Arc::clone(&reloader.loaded().config);
                    if probes(&config) && !has_room {
                        has_room = true;
                        // The one that there is has no room, and nothing attached.
                        drop(events.take());
                        host.set_kernel(None, false);
                        let (kernel, is_told) = kernel_side(&config);
                        host.set_kernel(kernel, is_told);
                        events = host.events_fd().map(watched).transpose()?;
                    }
                    host.reconfigure(config, now_ns());
                }
                shows.config.send_replace(Arc::new(reloader.health()));
                systemd::ready(&status(&host));
            }
            () = readable(Some(&ends)) => host.take_ends(now_ns()),
            () = readable(events.as_ref()) => host.take_events(now_ns()),
            word = heard.recv() => {
                if let Some(word) = word {
                    host.take_word(word, now_ns());
                }
            }
            ended = &mut serving => {
                let why = ended.err().map_or_else(|| "it returned".to_owned(), |e| e.to_string());
                return Err(Error::failed(format!("the server of metrics has ended by a mistake of ours: {why}")));
            }
            () = tokio::time::sleep(wait) => {}
        }
        let now = now_ns();
        host.tick(now);
        if host.take_changed() {
            clocks.view_ns = clocks.view_ns.min(now.next_multiple_of(SOON_NS));
        }
        if now >= clocks.view_ns {
            clocks.view_ns = now.saturating_add(1).next_multiple_of(VIEW_NS);
            let view = with_configuration(host.view(now), &reloader, shows.config.borrow().ok);
            shows.view.send_replace(Arc::new(view));
        }
        if host.has_scanned() && !shows.ready.send_replace(true) {
            systemd::ready(&status(&host));
        }
        if clocks.watchdog_is_due(now) {
            systemd::alive();
        }
    }
    systemd::stopping();
    let _ = stop.send(());
    host.stop();
    if tokio::time::timeout(LAST_ANSWERS, serving).await.is_err() {
        log::warn!("answers that were being sent are cut off");
    }
    Ok(())
}

/// What the pages are made from, to be renewed.
struct Shows {
    view: watch::Sender<Arc<HostView>>,
    ready: watch::Sender<bool>,
    config: watch::Sender<Arc<Health>>,
}

impl Shows {
    fn new(reloader: &Reloader) -> (Self, Pages) {
        let (view, views) = watch::channel(Arc::new(HostView::default()));
        let (ready, readiness) = watch::channel(false);
        let (config, configs) = watch::channel(Arc::new(reloader.health()));
        let pages = Pages {
            view: views,
            ready: readiness,
            config: configs,
            hosts: Hosts::new(&reloader.loaded().config.http.hosts),
            stale_after: STALE,
        };
        (Self { view, ready, config }, pages)
    }
}

/// Whatever is due by time and does not belong to the host.
struct Clocks {
    view_ns: u64,
    watchdog: Option<Duration>,
    watchdog_ns: u64,
}

impl Clocks {
    fn new() -> Self {
        Self {
            view_ns: 0,
            watchdog: systemd::watchdog(),
            watchdog_ns: 0,
        }
    }

    /// How long the loop may wait.
    fn until(&self, due_ns: u64) -> Duration {
        let due = due_ns.min(self.view_ns).min(match self.watchdog {
            Some(_) => self.watchdog_ns,
            None => u64::MAX,
        });
        Duration::from_nanos(due.saturating_sub(now_ns())).min(LONGEST)
    }

    fn watchdog_is_due(&mut self, now_ns: u64) -> bool {
        let Some(every) = self.watchdog.filter(|_| now_ns >= self.watchdog_ns) else {
            return false;
        };
        self.watchdog_ns = now_ns.saturating_add(u64::try_from(every.as_nanos()).unwrap_or(u64::MAX));
        true
    }
}

/// What ends the daemon.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let on = |kind| {
            signal(kind).map_err(|e| Error::failed(format!("could not install a handler for signals: {e}")))
        };
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
        })
    }

    async fn end(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

fn with_configuration(mut view: HostView, reloader: &Reloader, ok: bool) -> HostView {
    let loaded: Arc<Loaded> = reloader.loaded();
    view.daemon.reloads = reloader.counts().clone();
    view.daemon.config_loaded_at = Some(loaded.loaded_at);
    view.daemon.config_sha256 = Some(loaded.sha256.clone());
    view.daemon.config_ok = Some(ok);
    view
}

fn status(host: &Host) -> String {
    format!("{} Go processes", host.targets())
}

/// The socket that systemd hands over, else one of our own.
async fn listener(config: &Config) -> Result<TcpListener> {
    let failed = |e: std::io::Error| {
        Error::failed(format!(
            "cannot listen on {}: {e}; another gmpscope may be running, else choose another address with http.listen",
            config.http.listen
        ))
    };
    match systemd::listener()? {
        Some(socket) => {
            socket.set_nonblocking(true).map_err(failed)?;
            TcpListener::from_std(socket).map_err(failed)
        }
        None => TcpListener::bind(config.http.listen).await.map_err(failed),
    }
}

/// Whether anything may be probed.
fn probes(config: &Config) -> bool {
    let is_probed = |tier: Tier| tier > Tier::Passive;
    is_probed(config.tier.highest)
        || config.target.iter().filter_map(|rule| rule.tier).any(is_probed)
        || !config.init.include.is_empty()
}

/// The kernel side, and whether it tells of processes. Without it all targets are `passive`, and are found by scans.
fn kernel_side(config: &Config) -> (Option<HostKernel>, bool) {
    let capacity = match probes(config) {
        true => Capacity::for_host(config.discovery.max_targets.min(MOST_PROBED), true),
        false => Capacity::for_host(1, false),
    };
    let mut kernel = match HostKernel::load(capacity) {
        Ok(kernel) => kernel,
        Err(e) => {
            log::warn!("no probes, and processes are found by reading /proc every second: {e}");
            return (None, false);
        }
    };
    match kernel.watch_processes() {
        Ok(()) => (Some(kernel), true),
        Err(e) => {
            log::warn!("processes are found by reading /proc every second: {e}");
            (Some(kernel), false)
        }
    }
}

/// Without that there is nothing to do.
fn may_look_into_processes() -> Result<()> {
    let missing = Privileges::ours().missing_for(Need::ReadProcess);
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
    Err(Error::not_permitted(format!(
        "the memory of other processes may not be read (missing: {}). {} `gmpscope doctor` tells more.",
        names.join(", "),
        advice(Need::ReadProcess)
    )))
}

/// One descriptor for each target, and some: as many as we may have.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(e) = setrlimit(Resource::Nofile, limit) {
        log::debug!("the limit of open files stays: {e}");
    }
}

/// A descriptor that somebody else owns, and holds for as long as the loop runs.
struct Foreign(RawFd);

impl AsRawFd for Foreign {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

#[allow(
    deprecated,
    reason = "the successor is unsafe to call; the host keeps the descriptor open as long as it lives"
)]
fn watched(fd: BorrowedFd<'_>) -> Result<AsyncFd<Foreign>> {
    AsyncFd::with_interest(Foreign(fd.as_raw_fd()), Interest::READABLE)
        .map_err(|e| Error::failed(format!("the event loop cannot wait for a descriptor: {e}")))
}

/// Resolves when there is something to be read; without a descriptor, never. Whatever is readable is read before the
/// next call.
async fn readable(fd: Option<&AsyncFd<Foreign>>) {
    match fd {
        Some(fd) => match fd.readable().await {
            Ok(mut guard) => guard.clear_ready(),
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}
