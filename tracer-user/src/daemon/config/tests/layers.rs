//! Which layer wins.

use std::net::SocketAddr;

use super::*;

#[test]
fn each_layer_wins_over_those_before_it() {
    let folder = Folder::new();
    folder.write("config.toml", "");
    let mut layers = folder.layers();
    let port = |layers: &Layers| {
        let loaded = load(layers).unwrap();
        let from = origin(&loaded, "http.listen", folder.0.path());
        (loaded.config.http.listen.port(), from)
    };
    assert_eq!(port(&layers), (9435, "default".to_owned()));
    folder.write("config.toml", "# first\nhttp.listen = \"127.0.0.1:1\"\n");
    assert_eq!(port(&layers), (1, "config.toml:2".to_owned()));
    // By name, not by time.
    folder.write("conf.d/20-b.toml", "[http]\n\nlisten = \"127.0.0.1:3\"\n");
    folder.write("conf.d/10-a.toml", "http = { listen = \"127.0.0.1:2\" }\n");
    assert_eq!(port(&layers), (3, "conf.d/20-b.toml:3".to_owned()));
    layers.environment = environment(&[("GMPSCOPE_HTTP_LISTEN", "127.0.0.1:4"), ("PATH", "/bin")]);
    assert_eq!(port(&layers), (4, "environment GMPSCOPE_HTTP_LISTEN".to_owned()));
    layers.flags = vec![("http.listen", "127.0.0.1:5".to_owned())];
    assert_eq!(port(&layers), (5, "flag --http-listen".to_owned()));
    let loaded = load(&layers).unwrap();
    assert_eq!(origin(&loaded, "http.timeout", folder.0.path()), "default");
    let names: Vec<_> = loaded
        .files
        .iter()
        .map(|file| file.strip_prefix(folder.0.path()).unwrap().to_owned())
        .collect();
    assert_eq!(
        names
            .iter()
            .map(|name| name.to_str().unwrap())
            .collect::<Vec<_>>(),
        ["config.toml", "conf.d/10-a.toml", "conf.d/20-b.toml"]
    );
}

#[test]
fn every_setting_has_every_layer() {
    let folder = Folder::new();
    folder.write("config.toml", "");
    // One value of each type that is not the default.
    let value = |setting: &table::Setting| match setting.is {
        table::Type::Address(_) => "[::1]:80",
        table::Type::Count(..) => "7",
        table::Type::Time(..) => "150ms",
        table::Type::Share(_) => "0.25%",
        table::Type::Tier(..) => "sampled",
        table::Type::Paths(_) => "/usr/bin/*,*/caddy",
        table::Type::Hosts(_) => "node-1,*.example.com",
        table::Type::Switch(_) => "true",
    };
    let mut names = std::collections::BTreeSet::new();
    for setting in table::SETTINGS {
        assert!(
            names.insert(setting.variable()) && names.insert(setting.flag()),
            "{}",
            setting.name
        );
        assert_eq!(setting.name, format!("{}.{}", setting.group(), setting.key()));
        let shown = |layers: &Layers| {
            let loaded = load(layers).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
            (
                setting.bare(&loaded.config),
                table::differing(&loaded.config, &Config::default()),
                loaded.origins.get(setting.name).cloned().unwrap(),
            )
        };
        let expected = |from| (value(setting).to_owned(), vec![setting.name], from);
        let mut layers = folder.layers();
        layers.environment = environment(&[(&setting.variable(), value(setting))]);
        assert_eq!(shown(&layers), expected(Origin::Environment(setting.variable())));
        let set_in_environment = load(&layers).unwrap();
        layers.environment.clear();
        layers.flags = vec![(setting.name, value(setting).to_owned())];
        assert_eq!(shown(&layers), expected(Origin::Flag(setting.flag())));
        // The result is also written into a file, and read back.
        folder.write("config.toml", set_in_environment.config.to_toml());
        layers.flags.clear();
        assert_eq!(load(&layers).unwrap().config, set_in_environment.config);
        folder.write("config.toml", "");
    }
}

#[test]
fn rules_of_later_files_come_first() {
    let folder = Folder::new();
    let rule = |comm: &str| format!("[[target]]\ncomm = \"{comm}\"\n");
    folder.write("config.toml", rule("one") + &rule("two"));
    folder.write("conf.d/1.toml", rule("three"));
    folder.write("conf.d/2.toml", rule("four") + "\n" + &rule("five"));
    let loaded = folder.load().unwrap();
    let names: Vec<_> = loaded
        .config
        .target
        .iter()
        .map(|rule| rule.comm.as_deref().unwrap())
        .collect();
    assert_eq!(names, ["four", "five", "three", "one", "two"]);
    let lines: Vec<String> = loaded.rules.iter().map(ToString::to_string).collect();
    for (line, end) in lines.iter().zip([
        "2.toml:1",
        "2.toml:4",
        "1.toml:1",
        "config.toml:1",
        "config.toml:3",
    ]) {
        assert!(line.ends_with(end), "{line} {end}");
    }
}

#[test]
fn every_way_to_write_a_value() {
    let folder = Folder::new();
    let text = r#"
        http.listen = "[::]:80"
        http.max_connections = 0x10
        budget.target = 0.005
        budget.host = '12.5 %'
        discovery.settle = "0s"
        tier.passive_interval = "1m30s"
        init.include = ["/a", '*/b',]
        [[target]]
        exe = "*/caddy"
        cgroup = "/system.slice/*"
        container = "3f9c*"
        pod = "0f8fad5b-*"
        uid = 0
        tier = "exact"
        window = "1m"
    "#;
    let config = folder.write("config.toml", text).load().unwrap().config;
    assert_eq!(config.http.listen, "[::]:80".parse::<SocketAddr>().unwrap());
    assert_eq!(config.http.max_connections, 16);
    assert_eq!((config.budget.target, config.budget.host), (0.005, 0.125));
    assert_eq!(config.discovery.settle, Duration::ZERO);
    assert_eq!(config.tier.passive_interval, Duration::from_secs(90));
    assert_eq!(config.init.include, ["/a", "*/b"]);
    let rule = &config.target[0];
    assert_eq!(
        (rule.tier, rule.window),
        (Some(Tier::Exact), Some(Duration::from_secs(60)))
    );
    assert_eq!(
        (rule.uid, rule.exe.as_deref(), rule.comm.as_deref()),
        (Some(0), Some("*/caddy"), None)
    );
    let other = folder
        .write("config.toml", "\u{feff}[init]\ninclude = []\r\n")
        .load()
        .unwrap();
    assert_eq!(*other.config, Config::default());
}

#[test]
fn files_that_are_not_there_are_no_mistake_unless_they_were_named() {
    let folder = Folder::new();
    assert_eq!(folder.load().unwrap_err().len(), 1);
    folder.write("config.toml", "");
    fs::remove_dir(folder.path("conf.d")).unwrap();
    assert_eq!(folder.load().unwrap().files.len(), 1);
    fs::create_dir(folder.path("conf.d")).unwrap();
    for name in ["x.toml~", "x.conf", "README", ".hidden.toml", ".x.toml.swp"] {
        folder.write(&format!("conf.d/{name}"), "not TOML");
    }
    assert_eq!(folder.load().unwrap().files.len(), 1);
}

#[test]
fn equal_configurations_have_equal_digests() {
    let (one, other) = (Folder::new(), Folder::new());
    one.write(
        "config.toml",
        "[budget]\ntarget = \"1%\"\n[http]\ntimeout = \"60s\"",
    );
    other.write("config.toml", "http.timeout = \"1m\"");
    other.write("conf.d/x.toml", "# comment\nbudget.target = 0.010");
    let (one, other) = (one.load().unwrap(), other.load().unwrap());
    assert_eq!(one.sha256, other.sha256);
    assert_ne!(one.sha256, Config::default().sha256());
    // coreutils' sha256sum of the text says the same.
    let mut child = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), one.config.to_toml().as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap().stdout;
    assert_eq!(
        String::from_utf8(said).unwrap().split(' ').next().unwrap(),
        one.sha256
    );
}
