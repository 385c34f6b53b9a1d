//! The jobs of a run of the tests: commands, what each needs, and which may run at the same time.

use std::process::Command;
use std::time::Duration;

/// How long a job may take that sets no limit of its own. On two cores that are busy otherwise, the longest build takes
/// a quarter of this.
const TIME_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The product of one job, which others need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// Every test program, compiled.
    Tests,
    /// The release binary and its Debian package.
    Package,
    /// The binaries for the virtual machine of this architecture.
    Guest(crate::arch::Arch),
    /// The fuzz targets.
    FuzzTargets,
    /// The initial inputs of fuzzing.
    FuzzSeeds,
}

impl std::fmt::Display for Product {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tests => f.write_str("the test programs"),
            Self::Package => f.write_str("the release binary and its package"),
            Self::Guest(arch) => write!(f, "the guest for {}", arch.name()),
            Self::FuzzTargets => f.write_str("the fuzz targets"),
            Self::FuzzSeeds => f.write_str("the initial inputs of fuzzing"),
        }
    }
}

/// Which other jobs may run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// A build, which may run beside anything but another build in the same target folder: cargo would only wait for
    /// it.
    Build(Folder),
    /// A job that neither measures anything nor reads what others change.
    Together,
    /// A job that must have the machine to itself.
    Alone,
}

/// A target folder, which cargo locks, so that one build uses it at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// The folder of debug builds: test programs, and clippy.
    Debug,
    /// The folder of release builds, for all architectures.
    Release,
    /// The folder of the BPF programs.
    Bpf,
    /// The folder of the fuzz targets.
    Fuzz,
}

/// How the outcome of a job is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// As one check, which passes or fails.
    Check,
    /// Only if it fails: other jobs test what it makes.
    Build,
    /// By the closing lines of test programs. At least one test must have run.
    Tests,
    /// By the closing lines of test programs, which may have had no test.
    Examples,
    /// By its last line, `N passed, N failed`.
    LastLine,
}

/// One command of a run.
#[derive(Debug)]
pub struct Job {
    /// The name for people: `clippy`, `sites::stripping_moves_no_site`.
    pub name: String,
    /// The line of the summary that it belongs to.
    pub step: &'static str,
    /// The command to run.
    pub command: Command,
    /// How its outcome is counted.
    pub counted: Counted,
    /// Which other jobs may run at the same time.
    pub lane: Lane,
    /// The products that must exist before it starts.
    pub needs: Vec<Product>,
    /// The product that exists afterwards.
    pub makes: Option<Product>,
    /// Whether its output is shown although it passed.
    pub shown: bool,
    /// Whether it is run once more if it fails, since it compares times.
    pub retry: bool,
    /// How long it may take before it is killed, and counted as failed.
    pub at_most: Duration,
}

impl Job {
    /// A check that may run beside others and needs no product.
    pub fn new(step: &'static str, name: impl Into<String>, command: Command) -> Self {
        Self {
            name: name.into(),
            step,
            command,
            counted: Counted::Check,
            lane: Lane::Together,
            needs: Vec::new(),
            makes: None,
            shown: false,
            retry: false,
            at_most: TIME_LIMIT,
        }
    }

    /// Sets how it is counted.
    pub fn counted(mut self, counted: Counted) -> Self {
        self.counted = counted;
        self
    }

    /// Sets which other jobs may run at the same time.
    pub fn lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// Adds a product that it needs.
    pub fn needs(mut self, product: Product) -> Self {
        self.needs.push(product);
        self
    }

    /// Sets the product that it makes.
    pub fn makes(mut self, product: Product) -> Self {
        self.makes = Some(product);
        self
    }

    /// Shows its output even if it passes.
    pub fn shown(mut self) -> Self {
        self.shown = true;
        self
    }
}
