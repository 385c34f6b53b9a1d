//! The daemon's settings as users see them: `config show`, `config check`, and a daemon that reloads.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use gmpscope_tests::environment::gmpscope;
use serde_json::Value;

/// How long a reload may take on a machine where other tests compile.
const RELOADED: Duration = Duration::from_secs(30);

/// A folder with a configuration.
struct Settings(tempfile::TempDir);

impl Settings {
    fn new(text: &str) -> Result<Self> {
        let folder = Self(tempfile::tempdir()?);
        fs::create_dir(folder.path("conf.d"))?;
        folder.write("config.toml", text)?;
        Ok(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file by rename, so that nobody reads half of it.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        let temporary = self.path(".new");
        fs::write(&temporary, text)?;
        fs::rename(&temporary, self.path(name))?;
        Ok(())
    }

    fn config(&self) -> String {
        self.path("config.toml").display().to_string()
    }

    /// Output without the path of the folder.
    fn said(&self, bytes: &[u8]) -> String {
        let folder = format!("{}/", self.0.path().display());
        String::from_utf8_lossy(bytes).replace(&folder, "")
    }
}

/// Runs `gmpscope` with this configuration.
fn run(settings: &Settings, command: &[&str], more: &[&str], environment: &[(&str, &str)]) -> Result<Output> {
    Ok(Command::new(gmpscope()?)
        .args(command)
        .args(["--config", &settings.config()])
        .args(more)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()?)
}

#[test]
fn show_prints_each_value_with_its_origin() -> Result<()> {
    let settings =
        Settings::new("# mine\n[http]\ntimeout = \"5s\"\nlisten = \"127.0.0.1:1\"\n[budget]\nhost = 0.01\n")?;
    settings.write(
        "conf.d/10-x.toml",
        "budget.host = \"2%\"\n[[target]]\ncomm = \"caddy\"\n",
    )?;
    let environment = [
        ("GMPSCOPE_HTTP_LISTEN", "[::1]:2"),
        ("GMPSCOPE_TIER_HIGHEST", "sampled"),
    ];
    let flags = ["--http-listen", "127.0.0.1:3", "--init-include", "/a,/b"];
    let out = run(&settings, &["config", "show"], &flags, &environment)?;
    let text = settings.said(&out.stdout);
    ensure!(out.status.code() == Some(0) && out.stderr.is_empty(), "{out:?}");
    let squeezed: Vec<String> = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "http.listen = \"127.0.0.1:3\" # flag --http-listen",
        "http.timeout = \"5s\" # config.toml:3",
        "http.max_connections = 64 # default",
        "budget.host = \"2%\" # conf.d/10-x.toml:1",
        "tier.highest = \"sampled\" # environment GMPSCOPE_TIER_HIGHEST",
        "init.include = [\"/a\", \"/b\"] # flag --init-include",
        "target[0] = { comm = \"caddy\" } # conf.d/10-x.toml:2",
    ] {
        ensure!(squeezed.iter().any(|shown| shown == line), "no {line} in {text}");
    }

    let out = run(
        &settings,
        &["config", "show", "--format", "json"],
        &flags,
        &environment,
    )?;
    let json: Value = serde_json::from_slice(&out.stdout)?;
    ensure!(json["schema"] == "gmpscope.config/1", "{json:#}");
    let all = json["settings"].as_array().context("no settings")?;
    let value = |name: &str| {
        all.iter()
            .find(|setting| setting["name"] == name)
            .map(|setting| &setting["value"])
    };
    ensure!(value("http.max_connections") == Some(&64.into()), "{json:#}");
    ensure!(
        value("init.include") == Some(&serde_json::json!(["/a", "/b"])),
        "{json:#}"
    );
    ensure!(json["targets"][0]["value"]["comm"] == "caddy", "{json:#}");

    // The printed file reads back as the same, and has the printed digest, according to coreutils.
    let toml = run(
        &settings,
        &["config", "show", "--format", "toml"],
        &flags,
        &environment,
    )?
    .stdout;
    let again = Settings::new(&String::from_utf8(toml.clone())?)?;
    ensure!(run(&again, &["config", "show", "--format", "toml"], &[], &[])?.stdout == toml);
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no stdin")?.write_all(&toml)?;
    let digest = String::from_utf8(child.wait_with_output()?.stdout)?;
    ensure!(
        digest.split(' ').next() == json["sha256"].as_str(),
        "{digest} {json:#}"
    );
    Ok(())
}

#[test]
fn check_reports_all_mistakes_at_once() -> Result<()> {
    let settings = Settings::new("[http]\nlsiten = 1\ntimeout = 10\n")?;
    settings.write("conf.d/20.toml", "[budget]\nhost = \"101%\"\n")?;
    for command in [&["config", "check"][..], &["config", "show"], &["daemon"]] {
        let out = run(&settings, command, &[], &[("GMPSCOPE_BUDGET_TARGET", "x")])?;
        let said = settings.said(&out.stderr);
        ensure!(
            out.status.code() == Some(2) && out.stdout.is_empty(),
            "{command:?}: {out:?}"
        );
        let lines: Vec<&str> = said.lines().collect();
        let expected = [
            "gmpscope: 4 mistakes in the configuration:",
            "config.toml:2:1: http.lsiten: there is no such setting: did you mean `http.listen`?",
            "config.toml:3:11: http.timeout: `10` has no unit: write \"10s\" for seconds",
            "conf.d/20.toml:2:8: budget.host: `101%` is out of range: 0% to 100% are allowed",
            "environment GMPSCOPE_BUDGET_TARGET: budget.target: `x` is not a share: write a percentage, as in \"0.5%\"",
        ];
        ensure!(lines == expected, "{command:?}: {said}");
    }
    settings.write("config.toml", "")?;
    settings.write("conf.d/20.toml", "[budget]\nhost = \"1%\"\n")?;
    let out = run(&settings, &["config", "check"], &[], &[])?;
    ensure!(out.status.code() == Some(0) && out.stderr.is_empty(), "{out:?}");
    ensure!(
        settings.said(&out.stdout) == "ok config.toml\nok conf.d/20.toml\n",
        "{out:?}"
    );
    Ok(())
}

#[test]
fn check_of_files_reads_them_alone() -> Result<()> {
    let settings = Settings::new("http.timeout = \"5s\"\n")?;
    settings.write("conf.d/bad.toml", "x = 1\n")?;
    let check = |files: &[&Path]| {
        Command::new(gmpscope()?)
            .args(["config", "check"])
            .args(files)
            .env("GMPSCOPE_BUDGET_TARGET", "x")
            .output()
            .context("no gmpscope")
    };
    let (good, bad) = (settings.path("config.toml"), settings.path("conf.d/bad.toml"));
    ensure!(check(&[&good])?.status.code() == Some(0));
    let out = check(&[&good, &bad, &settings.path("nowhere.toml")])?;
    let said = settings.said(&out.stderr);
    ensure!(out.status.code() == Some(2), "{said}");
    ensure!(
        said.contains("conf.d/bad.toml:1:1: x: ") && said.contains("nowhere.toml: there is no such file"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_file_that_may_not_be_read_is_named() -> Result<()> {
    let settings = Settings::new("")?;
    let binary = settings.path("gmpscope");
    fs::copy(gmpscope()?, &binary)?;
    fs::set_permissions(settings.0.path(), fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(settings.path("config.toml"), fs::Permissions::from_mode(0o600))?;
    fs::set_permissions(settings.path("conf.d"), fs::Permissions::from_mode(0o700))?;
    let out = Command::new(&binary)
        .args(["config", "check", "--config", &settings.config()])
        .uid(65534)
        .gid(65534)
        .output()?;
    let said = settings.said(&out.stderr);
    ensure!(out.status.code() == Some(2), "{said}");
    for name in ["config.toml", "conf.d"] {
        ensure!(
            said.contains(&format!("\n{name}: it may not be read: Permission denied")),
            "{said}"
        );
    }
    Ok(())
}

/// A daemon that watches no process.
struct Daemon {
    child: Child,
    lines: Receiver<String>,
}

impl Daemon {
    fn start(settings: &Settings, stderr: Option<Stdio>) -> Result<Self> {
        let mut child = Command::new(gmpscope()?)
            .args(["daemon", "--config", &settings.config()])
            .args(["--http-listen", "127.0.0.1:0", "--tier-highest", "off"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr.unwrap_or_else(Stdio::piped))
            .spawn()?;
        let (send, lines) = channel();
        if let Some(stderr) = child.stderr.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    if send.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        let daemon = Self { child, lines };
        // Before it handles SIGHUP, the signal would end it. SIGTERM is handled once the settings were read. SigCgt of
        // proc(5).
        const BOTH: u64 = 1 << (libc::SIGHUP - 1) | 1 << (libc::SIGTERM - 1);
        daemon.wait(|status| {
            let caught = status
                .lines()
                .find_map(|line| line.strip_prefix("SigCgt:"))
                .unwrap_or("0");
            u64::from_str_radix(caught.trim(), 16).is_ok_and(|set| set & BOTH == BOTH)
        })?;
        Ok(daemon)
    }

    fn wait(&self, is_reached: impl Fn(&str) -> bool) -> Result<()> {
        let end = Instant::now() + RELOADED;
        while Instant::now() < end {
            if is_reached(&fs::read_to_string(format!("/proc/{}/status", self.child.id()))?) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        anyhow::bail!("it did not come so far")
    }

    fn signal(&self, signal: i32) -> Result<()> {
        // SAFETY: kill(2) takes two numbers; the child has not been waited for, so the PID is its own.
        let done = unsafe { libc::kill(self.child.id() as i32, signal) };
        ensure!(done == 0, "{}", std::io::Error::last_os_error());
        Ok(())
    }

    /// Waits for the next log line about a reload.
    fn reload(&self) -> Result<Value> {
        let end = Instant::now() + RELOADED;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).context("no reload")?;
            if let Ok(json) = serde_json::from_str::<Value>(&line)
                && json["event"] == "config_reload"
            {
                return Ok(json);
            }
        }
    }

    /// Counts open descriptors: all, and those of inotify.
    fn descriptors(&self) -> Result<(usize, usize)> {
        let links: Vec<PathBuf> = fs::read_dir(format!("/proc/{}/fd", self.child.id()))?
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .collect();
        let inotify = links
            .iter()
            .filter(|link| link.ends_with("anon_inode:inotify"))
            .count();
        Ok((links.len(), inotify))
    }

    fn end(mut self) -> Result<()> {
        self.signal(libc::SIGTERM)?;
        let end = Instant::now() + RELOADED;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.code() == Some(0), "{status}");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        anyhow::bail!("it does not end")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn a_daemon_reloads_on_sighup_and_when_a_file_changes() -> Result<()> {
    let settings = Settings::new("")?;
    let daemon = Daemon::start(&settings, None)?;
    daemon.signal(libc::SIGHUP)?;
    let first = daemon.reload()?;
    ensure!(first["origin"] == "sighup" && first["result"] == "ok", "{first}");
    ensure!(first["changed"] == serde_json::json!([]), "{first}");

    settings.write("conf.d/10.toml", "budget.host = \"1%\"\nhttp.timeout = \"3s\"\n")?;
    let good = daemon.reload()?;
    ensure!(good["origin"] == "file" && good["result"] == "ok", "{good}");
    ensure!(
        good["changed"] == serde_json::json!(["http.timeout", "budget.host"]),
        "{good}"
    );
    ensure!(good["sha256"] != first["sha256"], "{good}");

    settings.write("conf.d/10.toml", "budget.hots = \"1%\"\n")?;
    let bad = daemon.reload()?;
    ensure!(
        bad["result"] == "error" && bad["sha256"] == good["sha256"],
        "{bad}"
    );
    ensure!(bad["mistakes"][0]["key"] == "budget.hots", "{bad}");
    daemon.signal(libc::SIGHUP)?;
    let again = daemon.reload()?;
    ensure!(
        again["result"] == "error" && again["origin"] == "sighup",
        "{again}"
    );
    daemon.end()
}

#[test]
fn a_storm_of_good_and_bad_files_leaks_nothing() -> Result<()> {
    let settings = Settings::new("")?;
    let daemon = Daemon::start(&settings, None)?;
    // A file that is written before the daemon has read its settings is not a change.
    daemon.signal(libc::SIGHUP)?;
    daemon.reload()?;
    let text = |number: u32| format!("budget.host = \"0.{number:03}%\"\n");
    settings.write("config.toml", &text(1))?;
    daemon.reload()?;
    let (before, inotify) = daemon.descriptors()?;
    ensure!(inotify == 1, "{inotify} of inotify");
    for number in 1..=200 {
        settings.write(
            "config.toml",
            &if number % 2 == 0 {
                text(number)
            } else {
                "[budget\n".to_owned()
            },
        )?;
        // The daemon sees some by the change, some by a signal, some by both.
        if number % 5 == 0 {
            daemon.signal(libc::SIGHUP)?;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // The digest of the last file, from a second process.
    let shown = run(
        &settings,
        &["config", "show", "--format", "json"],
        &["--http-listen", "127.0.0.1:0", "--tier-highest", "off"],
        &[],
    )?;
    let last: Value = serde_json::from_slice(&shown.stdout)?;
    loop {
        let reload = daemon.reload()?;
        if reload["result"] == "ok" && reload["sha256"] == last["sha256"] {
            break;
        }
    }
    settings.write("config.toml", "[budget\n")?;
    let bad = loop {
        let reload = daemon.reload()?;
        if reload["result"] == "error" {
            break reload;
        }
    };
    ensure!(bad["sha256"] == last["sha256"], "{bad}");
    let (after, inotify) = daemon.descriptors()?;
    // A daemon opens files now and then; a leak would be one for each of some fifty reloads.
    ensure!(
        inotify == 1 && after <= before + 10,
        "{before} descriptors before, {after} after, {inotify} of inotify"
    );
    daemon.end()
}

#[test]
fn a_full_disk_for_the_log_stops_no_reload() -> Result<()> {
    let settings = Settings::new("")?;
    let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
    let daemon = Daemon::start(&settings, Some(full.into()))?;
    for text in ["x = 1\n", "budget.host = \"1%\"\n"] {
        settings.write("config.toml", text)?;
        daemon.signal(libc::SIGHUP)?;
        std::thread::sleep(Duration::from_millis(500));
    }
    daemon.end()
}
