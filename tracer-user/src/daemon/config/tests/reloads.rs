//! Reloads of the configuration.

use std::{os::unix::fs::symlink, time::Instant};

use super::*;

/// How long a change may take to be seen on a busy machine.
const SEEN: Duration = Duration::from_secs(20);

/// Longer than a change takes to be seen.
const QUIET: Duration = Duration::from_millis(1500);

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

fn budget(percent: &str) -> String {
    format!("[budget]\nhost = \"{percent}\"\n")
}

/// The next reload of a changed file.
async fn next(reloader: &mut Reloader) -> Reload {
    let trigger = tokio::time::timeout(SEEN, reloader.due())
        .await
        .expect("the change was not seen");
    assert_eq!(trigger, Trigger::File);
    reloader.reload(trigger)
}

async fn nothing_due(reloader: &mut Reloader) {
    let due = tokio::time::timeout(QUIET, reloader.due()).await;
    assert!(due.is_err(), "{due:?}");
}

fn host(reloader: &Reloader) -> String {
    share::exact(reloader.loaded().config.budget.host)
}

#[test]
fn a_good_file_replaces_the_configuration_and_a_bad_one_does_not() {
    run(async {
        let folder = Folder::new();
        folder.write("config.toml", "");
        let mut reloader = Reloader::start(folder.layers()).unwrap();
        let first = reloader.loaded();
        assert!(reloader.health().ok && reloader.health().watching);
        assert_eq!(reloader.counts(), &[("ok", 0), ("error", 0)].into());

        folder.replace(
            "config.toml",
            &(budget("2%") + "[http]\ntimeout = \"5s\"\n[[target]]\nuid = 1\n"),
        );
        let reload = next(&mut reloader).await;
        assert_eq!(
            (reload.result, reload.changed),
            ("ok", vec!["http.timeout", "budget.host", "target"])
        );
        assert_eq!(reload.needs_restart, ["http.timeout"]);
        assert_eq!(reload.sha256, reloader.loaded().sha256);
        assert_ne!(reload.sha256, first.sha256);
        assert_eq!(host(&reloader), "2%");
        let good = reloader.loaded();

        folder.replace("config.toml", "[budget]\nhots = 1\ntarget = \"x\"\n");
        let reload = next(&mut reloader).await;
        assert_eq!(
            (reload.result, reload.changed.len(), reload.mistakes.len()),
            ("error", 0, 2)
        );
        assert_eq!(
            (reload.sha256, reload.needs_restart),
            (good.sha256.clone(), vec!["http.timeout"])
        );
        assert_eq!(reloader.loaded().config, good.config);
        let health = reloader.health();
        assert!(!health.ok && health.unknown.len() == 1, "{health:?}");
        assert_eq!(health.unknown[0].key.as_deref(), Some("budget.hots"));
        assert_eq!(
            (health.sha256, health.last_loaded),
            (good.sha256.clone(), good.loaded_at)
        );
        let valid: Vec<&str> = health.valid.iter().map(|key| key.key.as_str()).collect();
        assert_eq!(valid, ["http.timeout", "budget.host", "target[0]"]);
        assert_eq!(health.missing.len(), table::SETTINGS.len() - 2);

        folder.replace("config.toml", "");
        let reload = next(&mut reloader).await;
        assert_eq!((reload.result, reload.needs_restart.len()), ("ok", 0));
        assert_eq!(reloader.loaded().config, first.config);
        assert!(reloader.health().ok);
        assert_eq!(reloader.counts(), &[("ok", 2), ("error", 1)].into());
    });
}

#[test]
fn the_line_is_one_of_json() {
    run(async {
        let folder = Folder::new();
        folder.write("config.toml", "");
        let mut reloader = Reloader::start(folder.layers()).unwrap();
        folder.write("config.toml", "x = 1\n");
        let line = crate::output::json::line(&reloader.reload(Trigger::Sighup)).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        line["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert_eq!(line["event"], "config_reload");
        assert_eq!(line["origin"], "sighup");
        assert_eq!(line["result"], "error");
        assert_eq!(line["sha256"], Config::default().sha256());
        assert_eq!(line["mistakes"][0]["key"], "x");
        assert_eq!(line["mistakes"][0]["kind"], "unknown_key");
        let at = format!("{}:1:1", folder.path("config.toml").display());
        assert_eq!(line["mistakes"][0]["at"], at);
    });
}

#[test]
fn files_that_come_and_go_are_seen() {
    run(async {
        let folder = Folder::new();
        folder.write("config.toml", "");
        fs::remove_dir(folder.path("conf.d")).unwrap();
        let mut reloader = Reloader::start(folder.layers()).unwrap();

        // The folder comes before what is in it.
        fs::create_dir(folder.path("conf.d")).unwrap();
        nothing_due(&mut reloader).await;
        folder.write("conf.d/10.toml", budget("1%"));
        assert_eq!(next(&mut reloader).await.changed, ["budget.host"]);
        folder.write("conf.d/20.toml", budget("2%"));
        assert_eq!(next(&mut reloader).await.changed, ["budget.host"]);
        assert_eq!(host(&reloader), "2%");
        fs::remove_file(folder.path("conf.d/20.toml")).unwrap();
        assert_eq!(next(&mut reloader).await.changed, ["budget.host"]);
        assert_eq!(host(&reloader), "1%");

        // The whole folder is moved away, and another takes its place.
        fs::rename(folder.path("conf.d"), folder.path("old")).unwrap();
        assert_eq!(next(&mut reloader).await.changed, ["budget.host"]);
        fs::create_dir(folder.path("new")).unwrap();
        folder.write("new/30.toml", budget("3%"));
        fs::rename(folder.path("new"), folder.path("conf.d")).unwrap();
        assert_eq!(next(&mut reloader).await.changed, ["budget.host"]);
        folder.write("conf.d/30.toml", budget("4%"));
        assert_eq!(next(&mut reloader).await.changed, ["budget.host"]);

        // Other files in the folder change nothing.
        folder.write("conf.d/x.txt", "x");
        folder.write("old/10.toml", "x");
        nothing_due(&mut reloader).await;
        // A comment is read, and changes nothing.
        folder.write("conf.d/30.toml", budget("4%") + "# the same");
        let reload = next(&mut reloader).await;
        assert_eq!((reload.result, reload.changed.len()), ("ok", 0));
        // The file that `--config` names must exist.
        fs::remove_file(folder.path("config.toml")).unwrap();
        assert_eq!(next(&mut reloader).await.result, "error");
        assert_eq!(host(&reloader), "4%");
        folder.write("config.toml", "");
        assert_eq!(next(&mut reloader).await.result, "ok");
    });
}

/// As kubelet does: files are links through `..data`, which is redirected by one rename.
#[test]
fn a_config_map_is_seen_to_turn() {
    run(async {
        let folder = Folder::new();
        let version = |name: &str, percent: &str| {
            fs::create_dir(folder.path(name)).unwrap();
            folder.write(&format!("{name}/config.toml"), budget(percent));
            symlink(name, folder.path("..data_tmp")).unwrap();
            fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
        };
        version("..v1", "1%");
        symlink("..data/config.toml", folder.path("config.toml")).unwrap();
        let mut reloader = Reloader::start(folder.layers()).unwrap();
        assert_eq!(host(&reloader), "1%");
        for (name, percent) in [("..v2", "2%"), ("..v3", "3%")] {
            version(name, percent);
            assert_eq!(next(&mut reloader).await.changed, ["budget.host"]);
            assert_eq!(host(&reloader), percent);
        }
        // Behind a link to another folder, which is itself redirected.
        let far = Folder::new();
        fs::create_dir(far.path("a")).unwrap();
        fs::create_dir(far.path("b")).unwrap();
        far.write("a/x.toml", budget("4%"))
            .write("b/x.toml", budget("5%"));
        symlink("a", far.path("current")).unwrap();
        symlink(far.path("current/x.toml"), folder.path("conf.d/x.toml")).unwrap();
        next(&mut reloader).await;
        assert_eq!(host(&reloader), "4%");
        symlink("b", far.path("turned")).unwrap();
        fs::rename(far.path("turned"), far.path("current")).unwrap();
        next(&mut reloader).await;
        assert_eq!(host(&reloader), "5%");
        far.write("b/x.toml", budget("6%"));
        next(&mut reloader).await;
        assert_eq!(host(&reloader), "6%");
    });
}

/// Files are read also while a writer does not stop, and in the end the last one is in force.
#[test]
fn a_storm_of_good_and_bad_files() {
    run(async {
        let folder = Folder::new();
        folder.write("config.toml", "");
        let mut reloader = Reloader::start(folder.layers()).unwrap();
        let good = |number: u32| budget(&format!("0.{number:05}%"));
        let (mut seen, mut failed) = (0, 0);
        let mut last_good = 0.0;
        let mut write = tokio::time::interval(Duration::from_millis(20));
        // On a busy machine there are fewer writes, and not many at once that no reading could come between.
        write.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut number = 0;
        let end = Instant::now() + SEEN;
        while seen + failed < 4 {
            assert!(
                Instant::now() < end,
                "during {number} writes it was read {seen} times when good and {failed} when bad"
            );
            tokio::select! {
                _ = write.tick() => {
                    number += 1;
                    let bad = "[budget]\nhost = \"much\"\n".to_owned();
                    folder.replace("config.toml", &if number % 2 == 0 { good(number) } else { bad });
                }
                trigger = reloader.due() => {
                    let reload = reloader.reload(trigger);
                    let now = reloader.loaded().config.budget.host;
                    if reload.result == "ok" {
                        seen += 1;
                        // Later versions have higher values.
                        assert!(now >= last_good, "{now} after {last_good}");
                        last_good = now;
                    } else {
                        failed += 1;
                        assert!(now == last_good || last_good == 0.0, "{now} instead of {last_good}");
                    }
                }
            }
        }
        folder.replace("config.toml", &budget("2%"));
        let end = Instant::now() + SEEN;
        while host(&reloader) != "2%" && Instant::now() < end {
            next(&mut reloader).await;
        }
        assert_eq!(host(&reloader), "2%");
        folder.replace("config.toml", "[budget\n");
        assert_eq!(next(&mut reloader).await.result, "error");
        assert_eq!(host(&reloader), "2%");
        nothing_due(&mut reloader).await;
    });
}

/// The daemon waits for several things at once, so `due` is often dropped.
#[test]
fn due_may_be_dropped_and_called_again() {
    run(async {
        let folder = Folder::new();
        folder.write("config.toml", "");
        let mut reloader = Reloader::start(folder.layers()).unwrap();
        folder.replace("config.toml", &budget("7%"));
        let end = Instant::now() + SEEN;
        let trigger = loop {
            assert!(Instant::now() < end, "the change was not seen");
            if let Ok(trigger) = tokio::time::timeout(Duration::from_millis(10), reloader.due()).await {
                break trigger;
            }
        };
        assert_eq!(trigger, Trigger::File);
        assert_eq!(reloader.reload(trigger).changed, ["budget.host"]);
    });
}
