//! The stories of docs/stories.md: a service in trouble, its clients, and what is done about it. A test checks what
//! gmpscope answers before and after that; `cargo xtask bench stories` shows it.
//!
//! The server has a CPU of its own, in a control group whose weight says what else may use that CPU. Its clients, gmpscope
//! and the test share another one, so that none of them delays the server.

mod clients;
mod neighbour;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tracer_user::model::sched::Cause;

use crate::surroundings::cpus::{self, Confined};
use crate::surroundings::{Group, Placement, Quota};
use crate::workload::Workload;
use clients::Clients;
use neighbour::Neighbour;

pub use clients::Seen;

/// How long clients order before a capture begins.
const WARM_UP: Duration = Duration::from_millis(500);
/// The weight of a control group that nothing else on its CPU takes time from.
const ALONE: u32 = 10_000;
/// The weight of a service as any other, and that of its noisy neighbour: four times as much.
const SERVICE: u32 = 100;
/// See [`SERVICE`].
const NEIGHBOUR: u32 = 400;
/// The quota of the throttled server. It needs about four times as much.
const SCARCE: Quota = Quota::of_percent(10);
/// Its quota afterwards.
const PLENTY: Quota = Quota::of_percent(100);

/// A story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// The server needs more CPU time than its quota. The quota is raised.
    Throttled,
    /// A collector of metrics has the Ps for tens of milliseconds at a time. It is corrected.
    Saturated,
    /// Another process computes on the server's CPU, with a greater weight. It is moved to another CPU.
    Neighbour,
}

impl Story {
    /// Every story, in the order of the document.
    pub const ALL: [Self; 3] = [Self::Throttled, Self::Saturated, Self::Neighbour];

    /// The name in the document's marks.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Saturated => "saturated",
            Self::Neighbour => "neighbour",
        }
    }

    /// The cause of most of the waiting, before something is done about it.
    pub const fn cause(self) -> Cause {
        match self {
            Self::Throttled => Cause::CgroupThrottled,
            Self::Saturated => Cause::PBusy,
            Self::Neighbour => Cause::OsPreempted,
        }
    }

    /// The function that made the goroutines behind which others wait, where these are to blame.
    pub const fn culprit(self) -> Option<&'static str> {
        match self {
            Self::Saturated => Some("main.(*metricsCollector).Collect"),
            Self::Throttled | Self::Neighbour => None,
        }
    }

    const fn weight(self) -> u32 {
        match self {
            Self::Throttled | Self::Saturated => ALONE,
            Self::Neighbour => SERVICE,
        }
    }
}

/// The processes of a story, which are killed on drop.
#[derive(Debug)]
pub struct Scene {
    story: Story,
    program: PathBuf,
    /// The CPU of the server.
    own: usize,
    /// The CPU of everybody else.
    other: usize,
    // Dropped in this order: a control group can be removed once the processes in it have ended.
    server: Workload,
    neighbour: Option<Neighbour>,
    clients: Clients,
    group: Group,
    _elsewhere: Confined,
}

impl Scene {
    /// Begins a story with this build of the workload `shop`. The calling thread, and what it starts, stays on the CPU
    /// of the clients until the scene is dropped.
    ///
    /// # Errors
    /// Not root, fewer than two CPUs, or no control group for CPU time can be made.
    pub fn begin(story: Story, program: &Path) -> Result<Self> {
        let (own, other) = cpus::two()?;
        let elsewhere = Confined::to(other)?;
        let group = weighing(story.weight())?;
        if story == Story::Throttled {
            group.limit_cpu(SCARCE)?;
        }
        let server = serve(program, &group, own, story == Story::Saturated)?;
        let neighbour = match story {
            Story::Throttled | Story::Saturated => None,
            Story::Neighbour => Some(Neighbour::start(weighing(NEIGHBOUR)?, own)?),
        };
        Ok(Self {
            story,
            program: program.to_owned(),
            own,
            other,
            server,
            neighbour,
            clients: Clients::new(program, weighing(ALONE)?, other),
            group,
            _elsewhere: elsewhere,
        })
    }

    /// Does what the story does about the trouble. The server is restarted if its program is what changes.
    pub fn remedy(&mut self) -> Result<()> {
        match self.story {
            Story::Throttled => self.group.limit_cpu(PLENTY),
            Story::Saturated => {
                self.server = serve(&self.program, &self.group, self.own, false)?;
                Ok(())
            }
            Story::Neighbour => {
                let neighbour = self.neighbour.as_ref().context("there is no neighbour")?;
                neighbour.move_to(self.other)
            }
        }
    }

    /// What clients see in this time, while nobody traces.
    pub fn symptom(&self, time: Duration) -> Result<Seen> {
        self.clients.order_for(&self.url()?, time)
    }

    /// Calls `capture` with the process id of the server, while clients order from it.
    pub fn under_load<T>(&self, capture: impl FnOnce(u32) -> Result<T>) -> Result<T> {
        let mut ordering = self.clients.order(&self.url()?)?;
        std::thread::sleep(WARM_UP);
        let captured = capture(self.server.pid())?;
        ensure!(ordering.is_running()?, "the clients ended before the capture did");
        Ok(captured)
    }

    fn url(&self) -> Result<String> {
        let address = self.server.first.extra.get("addr").and_then(Value::as_str);
        let address = address.context("the server did not report its address")?;
        Ok(format!("http://{address}/order"))
    }
}

/// Makes a control group with this weight, on the scale of v2.
fn weighing(weight: u32) -> Result<Group> {
    let group = Group::new("cpu")?;
    group.weigh(weight)?;
    Ok(group)
}

/// Where the processes of a story are: in a control group, on a CPU, and not there any longer than the story.
fn held(group: &Group, cpu: usize) -> Placement<'_> {
    Placement {
        group: Some(group),
        cpu: Some(cpu),
        ends_with_us: true,
        ..Placement::default()
    }
}

/// Starts a server in a control group, on this CPU.
fn serve(program: &Path, group: &Group, cpu: usize, collects_anew: bool) -> Result<Workload> {
    let mut command = Command::new(program);
    command
        .arg("serve")
        .args(collects_anew.then_some("-collect"))
        .arg("-control")
        .env_remove("GOMAXPROCS")
        .env_remove("GODEBUG");
    held(group, cpu).apply(&mut command)?;
    let mut server = Workload::start_by(command)?;
    server.go()?;
    Ok(server)
}
