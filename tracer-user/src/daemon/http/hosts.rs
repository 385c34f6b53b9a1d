//! Which names the server answers to: the check of the Host header.
//!
//! A page in somebody's browser may read what its own origin answers, and its origin is a name. A hostile site can have
//! its name resolve to 127.0.0.1 once the page is loaded (DNS rebinding), and then read this server as if it were the
//! site's own. Such a request carries the site's name. So a request is answered when it asks for an IP address, which
//! no resolver can turn into another, for `localhost`, for this machine's own host name, or for a name that the
//! configuration lists.

use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::{Request, StatusCode, Version, header};

use crate::{daemon::discovery::fits, process::text_of};

/// The names that the server answers to, in lower case.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    machine: Option<String>,
    configured: Vec<String>,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostError {
    /// There is not exactly one Host header, which HTTP/1.1 requires (RFC 9112, 3.2).
    Malformed,
    /// It asks for a name that the server does not answer to.
    Name,
}

impl HostError {
    /// The status of the answer.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Name => StatusCode::MISDIRECTED_REQUEST,
        }
    }

    /// The text of the answer.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Malformed => "a request must have one Host header\n",
            Self::Name => {
                "this server does not answer to the name in the Host header: ask for an IP address, localhost or the \
                 host name of the machine, or list the name in the setting http.hosts (--http-hosts, \
                 GMPSCOPE_HTTP_HOSTS)\n"
            }
        }
    }
}

impl Hosts {
    /// Answers to the patterns of `http.hosts`, and to the name of this machine.
    pub fn new(configured: &[String]) -> Self {
        let machine = text_of("/proc/sys/kernel/hostname").unwrap_or_default();
        Self::of(machine.trim(), configured)
    }

    fn of(machine: &str, configured: &[String]) -> Self {
        Self {
            // The kernel says `(none)` if no name was set.
            machine: Some(plain(machine)).filter(|name| !matches!(name.as_str(), "" | "(none)")),
            configured: configured.iter().map(|name| plain(name)).collect(),
        }
    }

    /// Checks that a request asks for one of our names.
    ///
    /// # Errors
    /// It asks for another name, or does not say for which.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), HostError> {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => Some(host.to_str().map_err(|_| HostError::Malformed)?),
            // HTTP/1.0 does not require it, and every browser sends it.
            (None, _) if request.version() < Version::HTTP_11 => None,
            _ => return Err(HostError::Malformed),
        };
        // `GET http://name/path`: this name comes first (RFC 9112, 3.2.2).
        let target = request.uri().authority().map(|authority| authority.as_str());
        match host.into_iter().chain(target).all(|it| self.knows(it)) {
            true => Ok(()),
            false => Err(HostError::Name),
        }
    }

    /// Whether `NAME[:PORT]` is one of our names.
    fn knows(&self, host: &str) -> bool {
        if let Some(rest) = host.strip_prefix('[') {
            return rest.split_once(']').is_some_and(|(address, port)| {
                // `%25eth0` or `%eth0`: the zone of a link-local address.
                let address = address.split_once('%').map_or(address, |(address, _)| address);
                address.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port))
            });
        }
        let name = match host.find(':') {
            Some(at) if is_port(&host[at..]) => &host[..at],
            Some(_) => return false,
            None => host,
        };
        let name = plain(name);
        name.parse::<Ipv4Addr>().is_ok()
            || name == "localhost"
            || self.machine.as_ref() == Some(&name)
            || self.configured.iter().any(|pattern| fits(pattern, &name))
    }
}

/// Normalizes a name: case does not matter, nor a full stop at the end.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':')
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts {
        Hosts::of(
            "Node-1",
            &["metrics.example.com".into(), "*.Cluster.local".into()],
        )
    }

    #[test]
    fn addresses_and_names_of_ours_are_known() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9435",
            "192.0.2.7:80",
            "[::1]:9435",
            "[::1]",
            "[fe80::1%25eth0]:9435",
            "localhost:9435",
            "LOCALHOST",
            "localhost.:1",
            "node-1:9435",
            "NODE-1",
            "metrics.example.com:9435",
            "Metrics.Example.COM.",
            "a.b.cluster.local",
        ] {
            assert!(hosts().knows(host), "{host}");
        }
    }

    #[test]
    fn others_are_not() {
        for host in [
            "",
            ":9435",
            "evil.example",
            "evil.example:9435",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "evil.example@127.0.0.1",
            "127.0.0.1:evil.example",
            "node-1.evil.example",
            "cluster.local",
            "metrics.example.com.evil.example",
            "[::1].evil.example",
            "[evil]:1",
            "::1",
            "0x7f.1",
            "127.1",
            "local host",
        ] {
            assert!(!hosts().knows(host), "{host}");
        }
        assert!(!Hosts::of("(none)", &[]).knows("(none)"));
        assert!(!Hosts::of("", &[]).knows(""));
    }

    #[test]
    fn one_header_says_for_whom() {
        let request = |version, uri: &str, hosts: &[&str]| {
            let mut request = Request::builder().version(version).uri(uri);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            request.body(()).unwrap()
        };
        let check = |version, uri: &str, hosts_of: &[&str]| hosts().check(&request(version, uri, hosts_of));
        assert_eq!(check(Version::HTTP_11, "/", &["localhost"]), Ok(()));
        assert_eq!(check(Version::HTTP_10, "/", &[]), Ok(()));
        assert_eq!(check(Version::HTTP_11, "/", &[]), Err(HostError::Malformed));
        assert_eq!(
            check(Version::HTTP_11, "/", &["localhost", "localhost"]),
            Err(HostError::Malformed)
        );
        assert_eq!(check(Version::HTTP_10, "/", &["evil"]), Err(HostError::Name));
        assert_eq!(
            check(Version::HTTP_11, "http://evil/", &["localhost"]),
            Err(HostError::Name)
        );
        assert_eq!(
            check(Version::HTTP_11, "http://localhost:1/", &["evil"]),
            Err(HostError::Name)
        );
    }
}
