//! What is written reads back as it was.

use std::net::{IpAddr, SocketAddr};

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;

fn time(range: RangeInclusive<Duration>) -> impl Strategy<Value = Duration> {
    let (shortest, longest) = (range.start().as_nanos() as u64, range.end().as_nanos() as u64);
    (shortest..=longest, 0u32..12).prop_map(move |(ns, zeros)| {
        Duration::from_nanos((ns - ns % 10u64.pow(zeros)).clamp(shortest, longest))
    })
}

fn path() -> impl Strategy<Value = String> {
    r#"[/*?][^\x00\[\]{}\\]{0,20}"#
}

fn rule() -> impl Strategy<Value = TargetRule> {
    let conditions = (
        option::of(path()),
        option::of("[a-z*?\"'\n\u{7f}\u{202e}]{1,5}"),
        option::of(path()),
        option::of("[0-9a-f*?]{1,64}"),
        option::of("[0-9a-f-]{1,36}"),
        0..u32::MAX,
    );
    let what = prop_oneof![
        option::of(select(vec![Tier::Off, Tier::Passive, Tier::Sampled])).prop_map(|tier| (tier, None)),
        time(WINDOW).prop_map(|window| (Some(Tier::Exact), Some(window))),
    ];
    (conditions, what).prop_map(
        |((exe, comm, cgroup, container, pod, uid), (tier, window))| TargetRule {
            exe,
            comm,
            cgroup,
            container,
            pod,
            uid: Some(uid),
            tier,
            window,
        },
    )
}

prop_compose! {
    /// Every field is named, so that a setting that the table does not know cannot be forgotten here.
    fn config()(
        ip in any::<IpAddr>(), port in any::<u16>(), max_connections in 1..=10_000u32,
        timeout in time(Duration::from_millis(100)..=Duration::from_mins(60)),
        hosts in vec("[a-zA-Z0-9*?._-]{1,12}", 0..4),
        interval in time(Duration::from_millis(100)..=Duration::from_hours(24)),
        settle in time(Duration::ZERO..=Duration::from_mins(60)),
        max_targets in 1..=100_000u32,
        highest in select(vec![Tier::Off, Tier::Passive, Tier::Sampled]),
        passive_interval in time(Duration::from_millis(100)..=Duration::from_mins(60)),
        probe_interval in time(Duration::from_millis(100)..=Duration::from_secs(60)),
    )(
        target_share in 0.0..=1.0f64, host in 0.0..=0.01f64,
        target_floor in time(Duration::ZERO..=Duration::from_secs(1)),
        creation_sites in 0..=1_000u32,
        include in vec(path(), 0..4), whole_binary in any::<bool>(),
        target in vec(rule(), 0..4),
        http in Just(Http { listen: SocketAddr::new(ip, port), max_connections, timeout, hosts }),
        discovery in Just(Discovery { interval, settle, max_targets }),
        tier in Just(Tiers { highest, passive_interval, probe_interval }),
    ) -> Config {
        Config {
            http,
            discovery,
            tier,
            budget: Budget { target: target_share, target_floor, host },
            metrics: Metrics { creation_sites },
            init: Init { include, whole_binary },
            target,
        }
    }
}

proptest! {
    #[test]
    fn any_configuration_reads_back_the_same(config in config()) {
        let folder = Folder::new();
        let text = config.to_toml();
        let loaded = folder.write("config.toml", &text).load();
        let loaded = loaded.map_err(|mistakes| TestCaseError::fail(format!("{mistakes:?}\n{text}")))?;
        prop_assert_eq!(&*loaded.config, &config);
        prop_assert_eq!(loaded.sha256, config.sha256());
        prop_assert!(!text.replace('\n', "").chars().any(crate::escape::is_dangerous));
        prop_assert_eq!(table::differing(&loaded.config, &config), Vec::<&str>::new());
    }
}
