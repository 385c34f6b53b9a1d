//! Finds the container and the pod that a process is in, by the path of its cgroup.
//!
//! Every runtime names a container's cgroup after its id, of 64 hexadecimal digits:
//!
//! | made by | driver `cgroupfs` | driver `systemd` |
//! |---|---|---|
//! | docker | `/docker/ID` | `/system.slice/docker-ID.scope` |
//! | containerd (nerdctl) | `/default/ID` | `/system.slice/nerdctl-ID.scope` |
//! | containerd (CRI) | `/kubepods/burstable/podUID/ID` | `…/kubepods-burstable-podUID.slice/cri-containerd-ID.scope` |
//! | cri-o | `/kubepods/besteffort/podUID/crio-ID` | `…/kubepods-besteffort-podUID.slice/crio-ID.scope` |
//! | podman | `/libpod_parent/libpod-ID` | `/machine.slice/libpod-ID.scope/container` |
//!
//! In a systemd slice the hyphens of a pod's UID are underscores, since a hyphen there means "below". The UID of a
//! static pod is a hash, of 32 digits without hyphens.

/// How many digits the id of a container has.
const ID: usize = 64;

/// Where a process is placed, by its cgroups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Path of its cgroup: the one that names most, of v2 or of a v1 hierarchy.
    pub cgroup: String,
    /// Id of its container.
    pub container: Option<String>,
    /// UID of its Kubernetes pod.
    pub pod: Option<String>,
}

impl Placement {
    /// Parses the text of `/proc/PID/cgroup`.
    pub fn parse(cgroups: &str) -> Self {
        let mut best = Self::default();
        for line in cgroups.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(_), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let here = Self::of_path(path);
            if here.weight() > best.weight() {
                best = here;
            }
        }
        best
    }

    fn of_path(path: &str) -> Self {
        let mut placement = Self {
            cgroup: path.to_owned(),
            ..Self::default()
        };
        // The deepest one counts: a container may run in another.
        for name in path.split(['/', ':']) {
            if let Some(pod) = pod_of(name) {
                (placement.pod, placement.container) = (Some(pod), None);
            } else if let Some(id) = container_of(name) {
                placement.container = Some(id.to_owned());
            }
        }
        placement
    }

    /// How much the path says: one that names a container is better than one that does not, and any path better than
    /// the root. Of equal paths the first counts; v1 hierarchies come before v2, the highest number first.
    fn weight(&self) -> u32 {
        let points = |is_known: bool, points: u32| if is_known { points } else { 0 };
        points(self.container.is_some(), 8)
            + points(self.pod.is_some(), 4)
            + points(self.cgroup.len() > 1, 2)
            + points(!self.cgroup.is_empty(), 1)
    }
}

/// The id in `ID`, `docker-ID.scope`, `crio-ID`, `cri-containerd-ID.scope`, … The monitor of a container
/// (`crio-conmon-ID`, `libpod-conmon-ID`) is not in it.
fn container_of(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let (prefix, id) = name.rsplit_once('-').unwrap_or(("", name));
    let is_id = id.len() == ID && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (is_id && !prefix.ends_with("conmon")).then_some(id)
}

/// The UID in `podUID`, `kubepods-burstable-podUID.slice`, `kubepods-podUID.slice`.
fn pod_of(name: &str) -> Option<String> {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = match name.strip_prefix("pod") {
        Some(uid) => uid,
        None => name.contains("kubepods").then(|| name.rsplit_once("-pod"))??.1,
    };
    let uid = uid.replace('_', "-");
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let hyphens = uid.bytes().filter(|b| *b == b'-').count();
    let is_uid = digits == 32 && digits + hyphens == uid.len() && (hyphens == 0 || hyphens == 4);
    is_uid.then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3dfe0d51a4e3c1fb1d2bd2a2a7f3c2e5a1b0c9d8e7f60514233241506978a9b1";
    const B: &str = "aa11bb22cc33dd44ee55ff66aa77bb88cc99dd00ee11ff22aa33bb44cc55dd66";
    const UID: &str = "0b4b4e0c-2f31-4a57-9b7e-7f6c1d2e3f40";
    const SLICE: &str = "0b4b4e0c_2f31_4a57_9b7e_7f6c1d2e3f40";
    const HASH: &str = "5a09d6a1cfb1d2e3f4a5b6c7d8e9f0a1";

    #[test]
    fn every_runtime_and_driver_of_both_versions() {
        let container = Some(A);
        let pod = Some(UID);
        let burstable = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod";
        let table: Vec<(String, Option<&str>, Option<&str>)> = vec![
            // docker
            (format!("0::/system.slice/docker-{A}.scope"), container, None),
            (format!("0::/docker/{A}"), container, None),
            (
                format!("12:pids:/docker/{A}\n4:cpu,cpuacct:/docker/{A}\n0::/"),
                container,
                None,
            ),
            (
                format!(
                    "11:devices:/system.slice/docker-{A}.scope\n1:name=systemd:/system.slice/docker-{A}.scope\n0::/system.slice/docker-{A}.scope"
                ),
                container,
                None,
            ),
            // A process that a container has put into a cgroup of its own, as systemd in it does.
            (
                format!("0::/system.slice/docker-{A}.scope/init.scope"),
                container,
                None,
            ),
            (
                format!("0::/docker/{A}/system.slice/ssh.service"),
                container,
                None,
            ),
            // containerd
            (format!("0::/system.slice/nerdctl-{A}.scope"), container, None),
            (format!("0::/default/{A}"), container, None),
            (format!("0::/kubepods/burstable/pod{UID}/{A}"), container, pod),
            (format!("0::/kubepods/pod{UID}/{A}"), container, pod),
            (
                format!("9:cpu,cpuacct:/kubepods/besteffort/pod{UID}/{A}\n0::/"),
                container,
                pod,
            ),
            (
                format!("0::/{burstable}{SLICE}.slice/cri-containerd-{A}.scope"),
                container,
                pod,
            ),
            (
                format!("0::/kubepods.slice/kubepods-pod{SLICE}.slice/cri-containerd-{A}.scope"),
                container,
                pod,
            ),
            // containerd's other notation of a systemd cgroup, where the kubelet has the other driver
            (
                format!(
                    "0::/system.slice/containerd.service/kubepods-besteffort-pod{SLICE}.slice:cri-containerd:{A}"
                ),
                container,
                pod,
            ),
            // cri-o
            (
                format!("0::/{burstable}{SLICE}.slice/crio-{A}.scope"),
                container,
                pod,
            ),
            (
                format!("0::/{burstable}{SLICE}.slice/crio-{A}.scope/container"),
                container,
                pod,
            ),
            (
                format!("5:cpu:/kubepods/burstable/pod{UID}/crio-{A}"),
                container,
                pod,
            ),
            (
                format!("0::/{burstable}{SLICE}.slice/crio-conmon-{A}.scope"),
                None,
                pod,
            ),
            // podman
            (format!("0::/machine.slice/libpod-{A}.scope"), container, None),
            (
                format!("0::/machine.slice/libpod-{A}.scope/container"),
                container,
                None,
            ),
            (
                format!(
                    "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope/container"
                ),
                container,
                None,
            ),
            (
                format!("0::/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope/container"),
                container,
                None,
            ),
            (format!("5:cpu:/libpod_parent/libpod-{A}"), container, None),
            (format!("0::/machine.slice/libpod-conmon-{A}.scope"), None, None),
            // a static pod
            (
                format!("0::/kubepods/burstable/pod{HASH}/{A}"),
                container,
                Some(HASH),
            ),
            // Kubernetes in a container
            (
                format!("0::/docker/{B}/kubelet/kubepods/besteffort/pod{UID}/{A}"),
                container,
                pod,
            ),
            (
                format!(
                    "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{SLICE}.slice/cri-containerd-{A}.scope"
                ),
                container,
                pod,
            ),
            // seen from a cgroup namespace beside it
            (format!("0::/../../pod{UID}/{A}"), container, pod),
            // none
            ("0::/user.slice/user-0.slice/session-3.scope".into(), None, None),
            ("0::/system.slice/nginx.service".into(), None, None),
            ("0::/init.scope".into(), None, None),
            ("0::/".into(), None, None),
            (String::new(), None, None),
            // what only looks like one
            (format!("0::/docker/{}", &A[1..]), None, None),
            (format!("0::/docker/{}", A.to_uppercase()), None, None),
            (format!("0::/x/pod{}/y", &UID[1..]), None, None),
            ("0::/kubepods/podcast/x".into(), None, None),
            ("::::::\n:\n\n0".into(), None, None),
        ];
        for (text, container, pod) in table {
            let placement = Placement::parse(&text);
            assert_eq!(placement.container.as_deref(), container, "container of {text}");
            assert_eq!(placement.pod.as_deref(), pod, "pod of {text}");
        }
    }

    #[test]
    fn the_path_is_the_one_that_names_most() {
        let path = |text: &str| Placement::parse(text).cgroup;
        assert_eq!(
            path("0::/system.slice/nginx.service\n"),
            "/system.slice/nginx.service"
        );
        assert_eq!(
            path("9:cpu:/\n1:name=systemd:/system.slice/x.service\n0::/\n"),
            "/system.slice/x.service"
        );
        let docker = format!("9:cpu:/user.slice\n8:pids:/docker/{A}\n0::/\n");
        assert_eq!(path(&docker), format!("/docker/{A}"));
        // A colon in a name.
        assert_eq!(path("0::/a:b/c"), "/a:b/c");
    }
}
