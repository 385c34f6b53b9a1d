//! How mistakes are reported.

use super::*;

/// The only mistake of a text.
fn mistake(text: &str) -> String {
    let found = mistakes(text);
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

#[test]
fn each_kind_of_mistake_is_named_with_its_place() {
    for (text, place, parts) in [
        (
            "[http]\nlsiten = 1",
            "2:1: http.lsiten:",
            &["did you mean `http.listen`?"][..],
        ),
        ("lisen = 1", "1:1: lisen:", &["did you mean `http.listen`?"]),
        ("[htpp]\nlisten = 1", "1:2: htpp:", &["did you mean `http`?"]),
        ("[http.tls]\ncert = 1", "1:7: http.tls:", &["no such setting"]),
        ("[tagret]", "1:2: tagret:", &["did you mean `target`?"]),
        ("http = 1", "1:1: http:", &["write [http]"]),
        (
            "[http]\nlisten = 9435",
            "2:10: http.listen:",
            &["`9435`", "127.0.0.1:9435"],
        ),
        (
            "[http]\nlisten = \"localhost:1\"",
            "2:10:",
            &["`localhost:1`", "IP:PORT"],
        ),
        (
            "http.listen.ip = \"::1\"",
            "1:6: http.listen:",
            &["a table is not an address"],
        ),
        (
            "http.max_connections = 0",
            "1:24:",
            &["`0` is out of range", "from 1 to 10000"],
        ),
        (
            "http.max_connections = 1e3",
            "1:24:",
            &["`1e3` is not a whole number"],
        ),
        (
            "http.max_connections = 99999999999999999999",
            "1:24:",
            &["out of range"],
        ),
        ("http.max_connections = \"5\"", "1:24:", &["without quotes"]),
        ("http.timeout = 10", "1:16:", &["`10` has no unit", "\"10s\""]),
        ("http.timeout = \"ten\"", "1:16:", &["`ten` is not a duration"]),
        ("http.timeout = \"-1s\"", "1:16:", &["`-1s`"]),
        ("http.timeout = \"50ms\"", "1:16:", &["out of range: 100ms to 1h"]),
        (
            "http.timeout = 1979-05-27",
            "1:16:",
            &["a date is not a duration"],
        ),
        (
            "budget.target = \"5\"",
            "1:17:",
            &["`5` is not a share", "\"0.5%\""],
        ),
        ("budget.target = 1", "1:17:", &["`1` is not a share"]),
        ("budget.target = \"100.5%\"", "1:17:", &["0% to 100%"]),
        ("budget.target = -0.5", "1:17:", &["0% to 100%"]),
        ("budget.target = nan", "1:17:", &["`nan` is out of range"]),
        ("budget.target = true", "1:17:", &["`true` is not a share"]),
        (
            "tier.highest = \"smapled\"",
            "1:16:",
            &["did you mean `sampled`?", "off, passive, sampled"],
        ),
        ("tier.highest = \"exact\"", "1:16:", &["[[target]]", "window"]),
        (
            "init.include = \"/x\"",
            "1:16:",
            &["write as in [\"/usr/bin/*\"]"],
        ),
        (
            "init.include = [\"/x\",\n \"/[a]\"]",
            "2:2: init.include:",
            &["`[`", "`*`"],
        ),
        (
            "http.hosts = \"node\"",
            "1:14:",
            &["write as in [\"*.example.com\"]"],
        ),
        (
            "http.hosts = [\"node:9435\"]",
            "1:15: http.hosts:",
            &["`node:9435`", "without scheme and port"],
        ),
        ("[[target]]\nexe = \"x\"", "2:7: target.exe:", &["`*/x`"]),
        (
            "[[target]]\ncmom = \"x\"",
            "2:1: target.cmom:",
            &["did you mean `comm`?"],
        ),
        (
            "[[target]]\nport = 1",
            "2:1: target.port:",
            &["exe, comm, cgroup"],
        ),
        ("\n[[target]]\ntier = \"off\"", "2:1: target:", &["no condition"]),
        ("[[target]]\nuid = \"root\"", "2:7: target.uid:", &["by number"]),
        (
            "[[target]]\nuid = 4294967295",
            "2:7: target.uid:",
            &["out of range"],
        ),
        (
            "[[target]]\nuid = 1\ntier = \"exact\"",
            "1:1: target.window:",
            &["needs a window"],
        ),
        (
            "[[target]]\nuid = 1\nwindow = \"5s\"",
            "1:1: target.window:",
            &["only `exact`"],
        ),
        (
            "[[target]]\nuid = 1\ntier = \"exact\"\nwindow = \"1ms\"",
            "4:10:",
            &["1s to 24h"],
        ),
        ("[target]\nuid = 1", "1:1: target:", &["[[target]]"]),
        ("target = [1]", "1:10: target:", &["[[target]]"]),
        (
            "[http]\ntimeout = \"1s\"\ntimeout = \"2s\"",
            "3:1: timeout:",
            &["set before"],
        ),
        ("[http]\n[http]", "2:2: http:", &["set before"]),
        ("[http]\ntimeout = 10s", "2:11: not TOML", &["quotes"]),
        ("[http]\nlisten = 127.0.0.1:80", "2:15: not TOML", &["quotes"]),
        ("budget.target = 0.5%", "1:20: not TOML", &["quotes"]),
        ("[http]\ntimeout =", "2:10: not TOML", &["quotes"]),
        ("\"ä\" = \"äöü\" x", "1:13: not TOML", &["newline"]),
    ] {
        let found = mistake(text);
        assert!(
            found.starts_with(&format!("config.toml:{place}")),
            "{text:?}: {found}"
        );
        for part in parts {
            assert!(found.contains(part), "{text:?}: {found}");
        }
    }
}

#[test]
fn all_mistakes_of_all_layers_are_reported_at_once_and_in_order() {
    let folder = Folder::new();
    folder.write(
        "config.toml",
        "a = 1\nhttp.timeout = 1\n[budget]\nhost = 2\ntarget = 10%\n",
    );
    folder.write("conf.d/10.toml", "b = 1\n");
    folder.write(
        "conf.d/20.toml",
        "http.timeout = \"5s\"\n[[target]]\nx = 1\ny = 2\n",
    );
    let mut layers = folder.layers();
    layers.environment = environment(&[
        ("GMPSCOPE_HTTP_LISTNE", "1"),
        ("GMPSCOPE_BUDGET_HOST", "x"),
        ("GMPSCOPE_INIT_INCLUDE", "a, /b,c"),
    ]);
    layers.flags = vec![("tier.highest", "max".to_owned())];
    let found: Vec<String> = load(&layers)
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    let expected = [
        "config.toml:1:1: a: ",
        "config.toml:2:16: http.timeout: ",
        "config.toml:4:8: budget.host: ",
        "config.toml:5:10: not TOML",
        "10.toml:1:1: b: ",
        "20.toml:3:1: target.x: ",
        "20.toml:4:1: target.y: ",
        "environment GMPSCOPE_HTTP_LISTNE: no setting has this name: did you mean GMPSCOPE_HTTP_LISTEN?",
        "environment GMPSCOPE_BUDGET_HOST: budget.host: `x`",
        "environment GMPSCOPE_INIT_INCLUDE: init.include: `a` never",
        "environment GMPSCOPE_INIT_INCLUDE: init.include: `c` never",
        "flag --tier-highest: tier.highest: `max`",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found} is not {expected}");
    }
}

#[test]
fn variables_of_others_are_passed_over() {
    let folder = Folder::new();
    folder.write("config.toml", "");
    let mut layers = folder.layers();
    layers.environment = environment(&[
        // Ours, of other commands and of tests.
        ("GMPSCOPE_FORMAT", "json"),
        ("GMPSCOPE_BIN", "/x"),
        ("GMPSCOPE_TESTS", "full"),
        // What Kubernetes sets for services called gmpscope and gmpscope-metrics.
        ("GMPSCOPE_PORT", "tcp://10.0.0.1:9435"),
        ("GMPSCOPE_METRICS_SERVICE_HOST", "10.0.0.1"),
        ("GMPSCOPE_METRICS_PORT", "tcp://10.0.0.1:9435"),
        ("GMPSCOPE_METRICS_PORT_9435_TCP_ADDR", "10.0.0.1"),
        ("HTTP_LISTEN", "x"),
    ]);
    assert_eq!(*load(&layers).unwrap().config, Config::default());
    use std::os::unix::ffi::OsStringExt;
    layers.environment = vec![(
        "GMPSCOPE_HTTP_LISTEN".into(),
        std::ffi::OsString::from_vec(vec![0xff]),
    )];
    assert!(load(&layers).unwrap_err()[0].problem.contains("UTF-8"));
}

/// Values of settings can be shown, since no type of the table can hold a secret. An unknown key may be a secret that
/// was put into the wrong file, so its value is never shown.
#[test]
fn no_secret_is_ever_shown() {
    for setting in table::SETTINGS {
        for word in [
            "password",
            "passwd",
            "secret",
            "token",
            "credential",
            "private",
            "key",
        ] {
            assert!(
                !setting.name.contains(word),
                "{}: its type is shown everywhere",
                setting.name
            );
        }
    }
    let folder = Folder::new();
    folder.write("config.toml", "");
    let text = "http.password = \"hunter2\"\npassword = 'hunter2'\n[auth]\ntoken = \"hunter2\"\nlist = [\"hunter2\"]\n\
                [http.listen]\npassword = \"hunter2\"\n[[target]]\npassword = \"hunter2\"\n[budget]\nhost = 1\n\
                host = \"hunter2\"\nsecret = \"hunter2\ntoken = hunter2\n";
    let mut layers = folder.layers();
    layers.environment = environment(&[("GMPSCOPE_HTTP_PASSWORD", "hunter2")]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let unknown = Reloader::start(layers.clone()).unwrap_err();
        assert!(!format!("{unknown:?}").contains("hunter2"), "{unknown:?}");
        layers.environment.clear();
        let mut reloader = Reloader::start(layers).unwrap();
        folder.write("config.toml", text);
        let reload = reloader.reload(Trigger::Sighup);
        assert!(reload.mistakes.len() > 6, "{reload:?}");
        let health = serde_json::to_string(&reloader.health()).unwrap();
        let line = serde_json::to_string(&reload).unwrap();
        for shown in [line, health, describe(&reload.mistakes), format!("{reload:?}")] {
            assert!(
                shown.contains("http.password") && !shown.contains("hunter2"),
                "{shown}"
            );
        }
    });
}
