//! The Debian package, installed by dpkg on a machine that is booted for it: a real systemd in namespaces. What the
//! unit allows the daemon must be enough, and no more than the documentation says.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use gmpscope_tests::exposition::Exposition;
use gmpscope_tests::privilege::{CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE};
use gmpscope_tests::{RuntimeHistogram, System, Variant, Workload, environment, http, machine, toolchain};

/// Where the daemon listens by default.
const ADDRESS: &str = "127.0.0.1:9435";
const UNIT: &str = "gmpscope.service";
/// How long something that happens by itself may take.
const SEEN: Duration = Duration::from_secs(30);
/// Frequent readings, so that the tests need not wait, and an ample budget.
const QUICK: &str = "\
[tier]
passive_interval = \"500ms\"
probe_interval = \"500ms\"
[discovery]
interval = \"2s\"
settle = \"100ms\"
[budget]
target = \"100%\"
target_floor = \"1s\"
host = \"100%\"
";

/// A booted machine with the package.
struct Installed(System);

impl Installed {
    /// Installs the package like an administrator. `config` is there before, as a file in conf.d.
    fn with(config: &str) -> Result<Self> {
        let package = environment::package_file()?;
        let system = System::boot()?;
        std::fs::create_dir_all(system.path("/etc/gmpscope/conf.d"))?;
        std::fs::write(system.path("/etc/gmpscope/conf.d/test.toml"), config)?;
        system.copy_in(&package, "/tmp/gmpscope.deb")?;
        system.run(&["dpkg", "--no-triggers", "-i", "/tmp/gmpscope.deb"])?;
        Ok(Self(system))
    }

    /// Installs the package, and waits until the daemon is running.
    fn running(config: &str) -> Result<Self> {
        let installed = Self::with(config)?;
        installed.wait_until(
            "it runs",
            |it| Ok(it.0.property(UNIT, "ActiveState")? == "active"),
        )?;
        Ok(installed)
    }

    fn wait_until(&self, what: &str, is_it: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let end = Instant::now() + SEEN;
        while !is_it(self)? {
            if Instant::now() > end {
                bail!("not within {SEEN:?}: {what}\n{}", self.0.journal());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn get(&self, path: &str) -> Result<http::Response> {
        let address: SocketAddr = ADDRESS.parse()?;
        self.0.in_network(|| http::get(address, path))
    }

    fn metrics(&self) -> Result<Exposition> {
        Exposition::parse(self.get("/metrics")?.ok()?.text()?)
    }

    /// The PID of the daemon on the host.
    fn daemon(&self) -> Result<u32> {
        let inside = self.0.property(UNIT, "MainPID")?;
        // The kernel shows the PIDs of a process in all namespaces, ours first.
        for entry in std::fs::read_dir("/proc")? {
            let status = std::fs::read_to_string(entry?.path().join("status")).unwrap_or_default();
            let numbers: Vec<&str> = line(&status, "NSpid:").split_whitespace().collect();
            if let [outside, last] = numbers.as_slice()
                && *last == inside
                && line(&status, "Name:") == "gmpscope"
            {
                return Ok(outside.parse()?);
            }
        }
        bail!("there is no process {inside} of the unit\n{}", self.0.journal())
    }

    fn systemctl(&self, arguments: &[&str]) -> Result<String> {
        self.0.run(&[&["systemctl"], arguments].concat())
    }

    /// Adds lines to the unit, like `systemctl edit`.
    fn edit(&self, text: &str) -> Result<()> {
        let folder = self.0.path("/etc/systemd/system/gmpscope.service.d");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("test.conf"), text)?;
        self.systemctl(&["daemon-reload"])?;
        Ok(())
    }
}

/// What follows a name at the start of a line.
fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found.unwrap_or_default().trim()
}

#[test]
fn installed_it_runs_with_what_the_unit_says_and_removed_nothing_is_left() -> Result<()> {
    let _one = machine();
    let it = Installed::running("")?;
    assert_eq!(it.systemctl(&["is-enabled", UNIT])?.trim(), "enabled");
    let socket = it.0.output(&["systemctl", "is-enabled", "gmpscope.socket"])?;
    assert_eq!(String::from_utf8_lossy(&socket.stdout).trim(), "disabled");
    assert_eq!(it.get("/healthz")?.status, 200);

    let status = std::fs::read_to_string(format!("/proc/{}/status", it.daemon()?))?;
    let three = [CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE].map(|number| 1_u64 << number);
    let three = format!("{:016x}", three.iter().fold(0, |set, bit| set | bit));
    for set in ["CapEff:", "CapPrm:", "CapBnd:", "CapAmb:"] {
        assert_eq!(line(&status, set), three, "{set}");
    }
    assert_ne!(line(&status, "Uid:").split_whitespace().next(), Some("0"));
    assert_eq!(
        (line(&status, "NoNewPrivs:"), line(&status, "Seccomp:")),
        ("1", "2")
    );

    it.0.run(&[
        "systemd-analyze",
        "verify",
        &format!("/usr/lib/systemd/system/{UNIT}"),
    ])?;
    let security = it.0.run(&["systemd-analyze", "security", "--no-pager", UNIT])?;
    let exposure = security
        .lines()
        .find_map(|line| line.split_once("gmpscope.service: "));
    let exposure = exposure
        .and_then(|(_, rest)| rest.split(' ').next())
        .context("no score")?;
    assert!(
        exposure.parse::<f64>()? <= 1.9,
        "exposure {exposure}:\n{security}"
    );

    for page in ["gmpscope", "gmpscope-daemon", "gmpscope-config-check"] {
        it.0.run(&["test", "-s", &format!("/usr/share/man/man1/{page}.1.gz")])?;
    }
    it.0.run(&["gmpscope", "config", "check"])?;
    let conffiles = it.0.run(&["dpkg-query", "-W", "-f=${Conffiles}", "gmpscope"])?;
    assert!(conffiles.contains("/etc/gmpscope/config.toml"), "{conffiles}");

    std::fs::remove_file(it.0.path("/etc/gmpscope/conf.d/test.toml"))?;
    std::fs::remove_dir(it.0.path("/etc/gmpscope/conf.d"))?;
    let files = it.0.run(&["dpkg", "-L", "gmpscope"])?;
    it.0.run(&["dpkg", "--no-triggers", "--purge", "gmpscope"])?;
    assert!(it.get("/healthz").is_err(), "it still listens");
    let left: Vec<&str> = files
        .lines()
        .filter(|file| file.contains("gmpscope") && it.0.path(file).exists())
        .collect();
    assert_eq!(left, Vec::<&str>::new());
    let links = it.0.run(&[
        "find",
        "/etc/systemd",
        "/var/lib/systemd/deb-systemd-helper-enabled",
        "-name",
        "gmpscope*",
        // The harness's own.
        "!",
        "-name",
        "gmpscope-test.target",
    ])?;
    assert_eq!(links, "");
    Ok(())
}

#[test]
fn a_program_of_another_user_in_a_container_is_measured_truly() -> Result<()> {
    let _one = machine();
    let t = toolchain::newest()?;
    for tier in ["passive", "sampled"] {
        let it = Installed::running(&format!(
            "{QUICK}[[target]]\nexe = \"/srv/*\"\ntier = \"{tier}\"\n"
        ))?;
        std::fs::create_dir_all(it.0.path("/srv/app"))?;
        it.0.copy_in(&Variant::Stripped.build(&t, "mixed")?, "/srv/app/mixed")?;
        // Like a container: user, mount and PID namespaces of its own.
        let mut command = it.0.command("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "unshare"]);
        command.args([
            "--user",
            "--map-root-user",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
        ]);
        command.args(["--kill-child", "/srv/app/mixed", "-control"]);
        let mut w = Workload::start_by(command)?;
        assert_eq!(w.first.pid, 1, "it is not in a PID namespace of its own");

        let labels = [("exe", "/srv/app/mixed")];
        let at = [labels[0], ("tier", tier)];
        it.wait_until(&format!("a process at {tier}"), |it| {
            Ok(it.metrics()?.sum("gmpscope_tier", &at) == 1.0)
        })?;
        // What it did before the daemon found it is not counted; from here on everything is. Asking for its own counts
        // comes first: it makes a goroutine wait.
        let before = w.count()?;
        let settled = it.settled(&labels)?;
        w.go()?;
        std::thread::sleep(Duration::from_secs(1));
        let after = w.park()?;
        let own = after.latencies.since(&before.latencies);
        ensure!(own.count() > 1000, "only {} waits", own.count());
        let name = "gmpscope_sched_latencies_seconds";
        it.wait_until("all waits counted", |it| {
            let grown = it
                .metrics()?
                .histogram(name, &labels)?
                .since(&settled.histogram(name, &labels)?)?;
            Ok(grown.count() >= own.count() as f64)
        })?;
        let page = it.metrics()?;
        let grown = page
            .histogram(name, &labels)?
            .since(&settled.histogram(name, &labels)?)?;
        assert_eq!(grown.differences(&own), Vec::<String>::new(), "{tier}");
        if tier == "sampled" {
            it.sampled_agrees(&labels, &own)?;
        }
    }
    Ok(())
}

impl Installed {
    /// Reads the metrics of a parked process once they no longer change.
    fn settled(&self, labels: &[(&str, &str)]) -> Result<Exposition> {
        let name = "gmpscope_sched_latencies_seconds_count";
        self.wait_until("a first reading", |it| {
            Ok(it.metrics()?.find(name, labels).next().is_some())
        })?;
        // After some readings everything is included.
        std::thread::sleep(Duration::from_secs(2));
        self.metrics()
    }

    /// The runtime's sample is what `sampled` sees, one hit each. The runtime's histogram also has zeros that were not
    /// waits, which the probe leaves out.
    fn sampled_agrees(&self, labels: &[(&str, &str)], own: &RuntimeHistogram) -> Result<()> {
        let name = "gmpscope_sampled_latencies_seconds";
        let (least, most) = (own.without_zeros().count() as f64, own.count() as f64);
        let slack = 5.0_f64.max(0.01 * most);
        let near = |count: f64| (least - slack..=most + slack).contains(&count);
        let end = Instant::now() + SEEN;
        loop {
            let seen = self.metrics()?.histogram(name, labels)?.count();
            if near(seen) {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "the runtime sampled {least} to {most} waits, the probe saw {seen}"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn a_reload_takes_what_is_right_and_refuses_what_is_wrong() -> Result<()> {
    let _one = machine();
    let it = Installed::running("[tier]\npassive_interval = \"3s\"\n")?;
    let pid = it.0.property(UNIT, "MainPID")?;
    let file = it.0.path("/etc/gmpscope/conf.d/test.toml");
    let digest = |it: &Installed| -> Result<String> {
        let health: serde_json::Value = serde_json::from_str(it.get("/health/config")?.text()?)?;
        Ok(health["sha256"].as_str().context("no sha256")?.to_owned())
    };
    let first = digest(&it)?;

    std::fs::write(&file, "[tier]\npassive_interval = \"4s\"\n")?;
    it.systemctl(&["reload", UNIT])?;
    it.wait_until("the new configuration is in force", |it| Ok(digest(it)? != first))?;
    let second = digest(&it)?;

    std::fs::write(&file, "[tier]\npassive_intervall = \"4s\"\n")?;
    let refused = it.0.output(&["systemctl", "reload", UNIT])?;
    assert!(!refused.status.success(), "a mistake was taken");
    let journal = it.0.journal();
    assert!(journal.contains("passive_interval"), "no suggestion:\n{journal}");
    assert_eq!(it.0.property(UNIT, "ActiveState")?, "active");
    assert_eq!(digest(&it)?, second);
    assert_eq!(it.0.property(UNIT, "MainPID")?, pid, "it was started anew");
    Ok(())
}

#[test]
fn the_watchdog_starts_anew_what_hangs() -> Result<()> {
    let _one = machine();
    let it = Installed::running("")?;
    it.edit("[Service]\nWatchdogSec=1s\nTimeoutAbortSec=1s\nRestartSec=100ms\n")?;
    it.systemctl(&["restart", UNIT])?;
    // It notifies its watchdog: it lives three times as long as the limit.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(it.0.property(UNIT, "NRestarts")?, "0", "{}", it.0.journal());
    let pid = it.0.property(UNIT, "MainPID")?;
    // SAFETY: two numbers; the unit's process is alive.
    unsafe { libc::kill(it.daemon()? as i32, libc::SIGSTOP) };
    it.wait_until("a new process", |it| {
        let now = it.0.property(UNIT, "MainPID")?;
        Ok(now != pid && now != "0" && it.0.property(UNIT, "ActiveState")? == "active")
    })?;
    assert!(it.0.journal().contains("Watchdog timeout"), "{}", it.0.journal());
    assert_eq!(it.get("/healthz")?.status, 200);
    Ok(())
}

#[test]
fn a_scrape_of_systemds_socket_starts_it() -> Result<()> {
    let _one = machine();
    let it = Installed::running("")?;
    it.systemctl(&["stop", UNIT])?;
    assert!(it.get("/healthz").is_err(), "somebody listens");
    // Another port than http.listen: the socket takes precedence over the setting.
    let folder = it.0.path("/etc/systemd/system/gmpscope.socket.d");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(
        folder.join("test.conf"),
        "[Socket]\nListenStream=\nListenStream=127.0.0.1:80\n",
    )?;
    it.systemctl(&["daemon-reload"])?;
    it.systemctl(&["enable", "--now", "gmpscope.socket"])?;
    assert_eq!(it.0.property(UNIT, "ActiveState")?, "inactive");
    let page =
        it.0.in_network(|| http::get("127.0.0.1:80".parse()?, "/metrics"))?
            .ok()?;
    assert!(page.text()?.contains("gmpscope_"), "{}", page.text()?);
    // It answers before it is ready.
    it.wait_until("that it is ready", |it| {
        Ok(it.0.property(UNIT, "ActiveState")? == "active")
    })?;
    assert!(
        it.get("/healthz").is_err(),
        "it listens where http.listen says, too"
    );
    // While it restarts, no connection is refused.
    it.systemctl(&["restart", "--no-block", UNIT])?;
    let again =
        it.0.in_network(|| http::get("127.0.0.1:80".parse()?, "/healthz"))?;
    assert_eq!(again.status, 200);
    Ok(())
}

/// How many processes are watched when the daemon is stopped, and how many of them are probed.
const TARGETS: (usize, usize) = (200, 30);

#[test]
fn it_stops_at_once_whatever_it_watches() -> Result<()> {
    let _one = machine();
    let it = Installed::running(&format!(
        "{QUICK}[[target]]\nexe = \"/srv/probed\"\ntier = \"sampled\"\n"
    ))?;
    let t = toolchain::newest()?;
    it.0.copy_in(&Variant::Stripped.build(&t, "idle")?, "/srv/idle")?;
    it.0.copy_in(&Variant::Stripped.build(&t, "checksum")?, "/srv/probed")?;
    // Thirty of them that only pause for a millisecond have more hits than two CPUs can pay for.
    let start = |path: &str, n: usize, args: &[&str]| -> Result<Vec<std::process::Child>> {
        let one = || -> Result<_> {
            let mut command: Command = it.0.command(path);
            command.args(args).stdout(std::process::Stdio::null());
            Ok(command.spawn()?)
        };
        (0..n).map(|_| one()).collect()
    };
    // The probed ones come last: on a busy machine the governor may not let all of them keep their probes for long.
    let watched = |what: &str, tier: &'static str, n: usize| {
        it.wait_until(what, |it| {
            Ok(it.metrics()?.sum("gmpscope_tier", &[("tier", tier)]) >= n as f64)
        })
    };
    let mut children = start("/srv/idle", TARGETS.0 - TARGETS.1, &[])?;
    watched("all watched", "passive", TARGETS.0 - TARGETS.1)?;
    children.extend(start("/srv/probed", TARGETS.1, &["-pause", "20ms"])?);
    watched("all probed", "sampled", TARGETS.1)?;
    let began = Instant::now();
    it.systemctl(&["stop", UNIT])?;
    let took = began.elapsed();
    assert_eq!(it.0.property(UNIT, "Result")?, "success", "{}", it.0.journal());
    for child in &mut children {
        assert!(child.try_wait()?.is_none(), "a target ended");
        _ = child.kill();
        _ = child.wait();
    }
    assert!(took < Duration::from_secs(3), "{took:?}\n{}", it.0.journal());
    Ok(())
}
