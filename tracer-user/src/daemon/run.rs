//! The daemon's one loop: it waits for the next event, and passes it to the host.

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

/// How often the snapshot that is shown is renewed.
const VIEW_NS: u64 = 1_000_000_000;
/// After a target was added or removed, it is renewed at the next multiple of this: the loop turns then in any case.
const SOON_NS: u64 = 250_000_000;
/// A loop that has not turned for this long hangs, and `/healthz` says so.
const STALE: Duration = Duration::from_secs(30);
/// How long answers that are being sent may delay the end of the daemon.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How many processes, and binaries whose starts are timed, are probed at once at most.
const MAX_PROBED: u32 = 512;
/// The loop turns at least this often.
const LONGEST: Duration = Duration::from_secs(10);

/// Watches the host until SIGTERM or SIGINT.
///
/// # Errors
/// The configuration has mistakes, the daemon cannot listen on its address, or it may not read other processes.
pub async fn run(layers: Layers) -> Result<()> {
    let mut reloader = Reloader::start(layers)?;
    let loaded = reloader.loaded();
    let config = Arc::clone(&loaded.config);
    check_privileges()?;
    raise_open_files();
    let listener = listener(&config).await?;
    let address = listener.local_addr().ok();
    let mut signals = Signals::new()?;
    let (messages, mut inbox) = mpsc::unbounded_channel();
    let mut can_probe = wants_probes(&config);
    let (kernel, has_process_events) = kernel_side(&config);
    let mut host = Host::new(config, kernel, has_process_events, messages)?;
    let exits = watched(host.exits_fd())?;
    let mut events = host.events_fd().map(watched).transpose()?;
    let mut timers = Timers::new();
    let (publisher, pages) = Publisher::new(&reloader);
    let (stop, stopped) = oneshot::channel();
    let limits = Limits::new(&loaded.config.http);
    let mut serving = tokio::spawn(http::serve(listener, limits, pages, async {
        // An error means that the loop is gone, which is to end the server too.
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
        let wait = timers.until(host.next_due());
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
                    if wants_probes(&config) && !can_probe {
                        can_probe = true;
                        // The kernel side that is loaded has no room for probes, and nothing attached.
                        drop(events.take());
                        host.set_kernel(None, false);
                        let (kernel, has_process_events) = kernel_side(&config);
                        host.set_kernel(kernel, has_process_events);
                        events = host.events_fd().map(watched).transpose()?;
                    }
                    host.reconfigure(config, now_ns());
                }
                publisher.config.send_replace(Arc::new(reloader.health()));
                systemd::ready(&status(&host));
            }
            () = readable(Some(&exits)) => host.handle_exits(now_ns()),
            () = readable(events.as_ref()) => host.read_events(now_ns()),
            message = inbox.recv() => {
                if let Some(message) = message {
                    host.handle_message(message, now_ns());
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
            timers.view_ns = timers.view_ns.min(now.next_multiple_of(SOON_NS));
        }
        if now >= timers.view_ns {
            timers.view_ns = now.saturating_add(1).next_multiple_of(VIEW_NS);
            let view = with_configuration(host.view(now), &reloader, publisher.config.borrow().ok);
            publisher.view.send_replace(Arc::new(view));
        }
        if host.has_scanned() && !publisher.ready.send_replace(true) {
            systemd::ready(&status(&host));
        }
        if timers.watchdog_is_due(now) {
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

/// Publishes to the server what its pages are made from.
struct Publisher {
    view: watch::Sender<Arc<HostView>>,
    ready: watch::Sender<bool>,
    config: watch::Sender<Arc<Health>>,
}

impl Publisher {
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

/// The timers of the loop that do not belong to the host.
struct Timers {
    view_ns: u64,
    watchdog: Option<Duration>,
    watchdog_ns: u64,
}

impl Timers {
    fn new() -> Self {
        Self {
            view_ns: 0,
            watchdog: systemd::watchdog(),
            watchdog_ns: 0,
        }
    }

    /// How long the loop may wait until `due_ns` or the next timer.
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

/// The signals that end the daemon.
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

    /// Waits for one of them, and returns its name.
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

/// The socket that systemd hands over; without one, a new one.
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

/// Whether the configuration allows anything to be probed.
fn wants_probes(config: &Config) -> bool {
    let is_probed = |tier: Tier| tier > Tier::Passive;
    is_probed(config.tier.highest)
        || config.target.iter().filter_map(|rule| rule.tier).any(is_probed)
        || !config.init.include.is_empty()
}

/// Loads the kernel side. Also returns whether it reports execs and exits. Without it all targets are `passive`, and
/// are found by scans.
fn kernel_side(config: &Config) -> (Option<HostKernel>, bool) {
    let capacity = match wants_probes(config) {
        true => Capacity::for_host(config.discovery.max_targets.min(MAX_PROBED), true),
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

/// Checks that the memory of other processes may be read, without which there is nothing to do.
fn check_privileges() -> Result<()> {
    let missing = Privileges::ours().missing_for(Need::ReadProcess);
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
    Err(Error::not_permitted(format!(
        "the memory of other processes may not be read (missing: {}). {} Run `gmpscope doctor` for details.",
        names.join(", "),
        advice(Need::ReadProcess)
    )))
}

/// Raises the limit of open files as far as is allowed: each target needs a descriptor.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(e) = setrlimit(Resource::Nofile, limit) {
        log::debug!("the limit of open files stays: {e}");
    }
}

/// A descriptor that the host owns, and keeps open for as long as the loop runs.
struct HostDescriptor(RawFd);

impl AsRawFd for HostDescriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

#[allow(
    deprecated,
    reason = "the successor is unsafe to call; the host keeps the descriptor open as long as it lives"
)]
fn watched(fd: BorrowedFd<'_>) -> Result<AsyncFd<HostDescriptor>> {
    AsyncFd::with_interest(HostDescriptor(fd.as_raw_fd()), Interest::READABLE)
        .map_err(|e| Error::failed(format!("the event loop cannot wait for a descriptor: {e}")))
}

/// Resolves when the descriptor is readable; never without one. The caller must read all of it before the next call.
async fn readable(fd: Option<&AsyncFd<HostDescriptor>>) {
    match fd {
        Some(fd) => match fd.readable().await {
            Ok(mut guard) => guard.clear_ready(),
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}
