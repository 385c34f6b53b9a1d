//! Decides by the rules of the configuration what a process is watched with.

use std::time::Duration;

use super::Placement;
use crate::daemon::config::{Config, TargetRule, Tier};

/// The facts about a process that rules match.
#[derive(Clone, Copy, Debug)]
pub struct ProcessFacts<'a> {
    /// Path of the executable, as the process sees it.
    pub exe: &'a str,
    /// Its name, as in /proc/PID/comm.
    pub comm: &'a str,
    /// Effective user id.
    pub uid: u32,
    /// Its cgroup, container and pod.
    pub placement: &'a Placement,
}

/// What is to be done with a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The highest tier that it may have; [`Tier::Off`] excludes it.
    pub tier: Tier,
    /// How long [`Tier::Exact`] runs.
    pub window: Option<Duration>,
}

/// Returns what the first rule that matches says; if none matches, the default.
pub fn decide(config: &Config, process: &ProcessFacts<'_>) -> Decision {
    let rule = config.target.iter().find(|rule| matches(rule, process));
    Decision {
        tier: rule.and_then(|rule| rule.tier).unwrap_or(config.tier.highest),
        window: rule.and_then(|rule| rule.window),
    }
}

fn matches(rule: &TargetRule, process: &ProcessFacts<'_>) -> bool {
    let holds = |pattern: &Option<String>, text: Option<&str>| match pattern {
        None => true,
        Some(pattern) => text.is_some_and(|text| fits(pattern, text)),
    };
    holds(&rule.exe, Some(process.exe))
        && holds(&rule.comm, Some(process.comm))
        && holds(&rule.cgroup, Some(&process.placement.cgroup))
        && holds(&rule.container, process.placement.container.as_deref())
        && holds(&rule.pod, process.placement.pod.as_deref())
        && rule.uid.is_none_or(|uid| uid == process.uid)
}

/// Whether all of `text` matches a pattern in which `*` stands for any characters and `?` for one. Takes time
/// proportional to the product of their lengths at most, however many stars there are.
pub fn fits(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Where to continue after a mismatch: after the last star, which then covers one more character of the text.
    let mut retry = None;
    loop {
        let mut rest = text.clone();
        match (pattern.next(), rest.next()) {
            (None, None) => return true,
            (Some('*'), _) => retry = Some((pattern.clone(), text.clone())),
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => text = rest,
            _ => {
                let Some((behind, mut under)) = retry else {
                    return false;
                };
                if under.next().is_none() {
                    return false;
                }
                (pattern, text) = (behind.clone(), under.clone());
                retry = Some((behind, under));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "/usr/bin/caddy", true),
            ("", "", true),
            ("", "a", false),
            ("?", "", false),
            ("?", "é", true),
            ("/usr/bin/caddy", "/usr/bin/caddy", true),
            ("/usr/bin/caddy", "/usr/bin/caddy2", false),
            ("/usr/*/caddy", "/usr/local/bin/caddy", true),
            ("*/caddy", "/caddy/caddy/caddie", false),
            ("*/caddy", "/caddy/caddie/caddy", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("**a", "ba", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a]", "a", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern:?} on {text:?}");
        }
        // Trying every way would take longer than the age of the universe.
        assert!(!fits(&"*a".repeat(60), &"a".repeat(59)));
        assert!(!fits(&format!("{}b", "a*".repeat(60)), &"a".repeat(2000)));
    }

    /// The definition: a star covers nothing, or one more character.
    fn defined(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], rest) => rest.is_empty(),
            (['*', more @ ..], rest) => {
                defined(more, rest) || rest.split_first().is_some_and(|(_, rest)| defined(pattern, rest))
            }
            ([wanted, more @ ..], [found, rest @ ..]) => {
                (*wanted == '?' || wanted == found) && defined(more, rest)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_is_what_the_definition_says(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(fits(&pattern, &text), defined(&chars(&pattern), &chars(&text)));
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let placement = Placement {
            cgroup: "/system.slice/docker-abc.scope".into(),
            container: Some("abc".into()),
            pod: None,
        };
        let process = ProcessFacts {
            exe: "/usr/bin/caddy",
            comm: "caddy",
            uid: 33,
            placement: &placement,
        };
        let mut config = Config::default();
        let says = |config: &Config| decide(config, &process).tier;
        assert_eq!(says(&config), Tier::Passive, "no rule");
        let rule = |change: fn(&mut TargetRule)| {
            let mut rule = TargetRule {
                tier: Some(Tier::Off),
                ..TargetRule::default()
            };
            change(&mut rule);
            rule
        };
        for (matches, rule) in [
            (true, rule(|_| ())),
            (true, rule(|rule| rule.exe = Some("*/caddy".into()))),
            (false, rule(|rule| rule.exe = Some("*/caddy2".into()))),
            (true, rule(|rule| rule.comm = Some("cad?y".into()))),
            (true, rule(|rule| rule.uid = Some(33))),
            (false, rule(|rule| rule.uid = Some(0))),
            (true, rule(|rule| rule.cgroup = Some("/system.slice/*".into()))),
            (true, rule(|rule| rule.container = Some("ab*".into()))),
            // A process without a pod matches no pattern, not even `*`, which asks for one that is in a pod.
            (false, rule(|rule| rule.pod = Some("*".into()))),
            (
                false,
                rule(|rule| {
                    rule.comm = Some("caddy".into());
                    rule.uid = Some(0);
                }),
            ),
        ] {
            config.target = vec![rule.clone()];
            let expected = if matches { Tier::Off } else { Tier::Passive };
            assert_eq!(says(&config), expected, "{rule:?}");
        }
        let window = Some(Duration::from_secs(5));
        config.target = vec![
            TargetRule {
                comm: Some("other".into()),
                tier: Some(Tier::Off),
                ..TargetRule::default()
            },
            TargetRule {
                comm: Some("caddy".into()),
                tier: Some(Tier::Exact),
                window,
                ..TargetRule::default()
            },
            TargetRule {
                tier: Some(Tier::Off),
                ..TargetRule::default()
            },
        ];
        assert_eq!(
            decide(&config, &process),
            Decision {
                tier: Tier::Exact,
                window
            }
        );
    }
}
