//! What a run of the tests consists of: commands, what each needs, and what may run at the same time.

use std::process::Command;

/// Something that one job makes and others need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// Every test program, compiled.
    Tests,
    /// The release binary and its Debian package.
    Package,
    /// What boots in the virtual machine of this architecture.
    Guest(crate::arch::Arch),
    /// The fuzz targets.
    FuzzTargets,
    /// The inputs that fuzzing begins with.
    FuzzSeeds,
}

impl std::fmt::Display for Product {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tests => f.write_str("the test programs"),
            Self::Package => f.write_str("the release binary and its package"),
            Self::Guest(arch) => write!(f, "what boots on {}", arch.name()),
            Self::FuzzTargets => f.write_str("the fuzz targets"),
            Self::FuzzSeeds => f.write_str("the inputs that fuzzing begins with"),
        }
    }
}

/// Which other jobs may run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// A build: beside everything but another build in the same target folder, where cargo would only wait for it.
    Build(Folder),
    /// Measures nothing, and looks at nothing that the others change.
    Together,
    /// Has the machine to itself.
    Alone,
}

/// A folder that cargo locks, so that one build has it at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// What is compiled with debug assertions: test programs, and what clippy looks at.
    Debug,
    /// What is compiled as it is released, for all architectures.
    Release,
    /// The one of the BPF programs.
    Bpf,
    /// The one of the fuzz targets.
    Fuzz,
}

/// How a job's outcome is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// One check, which passes or fails.
    Check,
    /// Not at all, unless it fails: what it makes is tested by others.
    Build,
    /// By the closing lines of test programs, of which at least one test ran.
    Tests,
    /// By the closing lines of test programs, whether they had a test or not.
    Examples,
    /// By its last line, `N passed, N failed`.
    LastLine,
}

/// One command of a run.
#[derive(Debug)]
pub struct Job {
    /// For people: `clippy`, `sites::stripping_moves_no_site`.
    pub name: String,
    /// The line of the summary that it belongs to.
    pub step: &'static str,
    /// What is run.
    pub command: Command,
    /// How its outcome is counted.
    pub counted: Counted,
    /// What may run at the same time.
    pub lane: Lane,
    /// What must have been made before.
    pub needs: Vec<Product>,
    /// What is there afterwards.
    pub makes: Option<Product>,
    /// Whether what it printed is shown although it passed.
    pub shown: bool,
    /// Whether it compares times, and is run once more should it fail.
    pub again: bool,
}

impl Job {
    /// A check that may run beside others and needs nothing.
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
            again: false,
        }
    }

    /// Sets how it is counted.
    pub fn counted(mut self, counted: Counted) -> Self {
        self.counted = counted;
        self
    }

    /// Sets what may run at the same time.
    pub fn lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// Adds something that it needs.
    pub fn needs(mut self, product: Product) -> Self {
        self.needs.push(product);
        self
    }

    /// Sets what it makes.
    pub fn makes(mut self, product: Product) -> Self {
        self.makes = Some(product);
        self
    }

    /// Shows what it printed, also if it passed.
    pub fn shown(mut self) -> Self {
        self.shown = true;
        self
    }
}
