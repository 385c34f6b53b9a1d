//! Processor architectures that gmpscope runs on, and what other projects call them: the one place where these names
//! are written.

use clap::ValueEnum;
use clap::builder::PossibleValue;

/// An architecture. On the command line any of its names is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl Arch {
    /// Every architecture.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// This machine's architecture.
    pub fn native() -> Self {
        if cfg!(target_arch = "aarch64") {
            Self::Aarch64
        } else {
            Self::X86_64
        }
    }

    /// The name that the Linux kernel, Rust and QEMU use.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The name that Go (`GOARCH`) and Debian use.
    pub fn goarch(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// Rust's target triple for a binary that is statically linked with glibc.
    pub fn triple(self) -> String {
        format!("{}-unknown-linux-gnu", self.name())
    }

    /// GNU's triple: the folder of Debian's libraries, and what its cross compilers begin with.
    pub fn gnu_triple(self) -> String {
        format!("{}-linux-gnu", self.name())
    }

    /// The C compiler for this architecture, as Debian names the program.
    pub fn cross_gcc(self) -> String {
        format!("{}-gcc", self.gnu_triple())
    }

    /// Debian's packages of the C compiler and the C library for this architecture.
    pub fn cross_packages(self) -> Vec<String> {
        vec![
            format!("gcc-{}", self.gnu_triple().replace('_', "-")),
            format!("libc6-dev-{}-cross", self.goarch()),
        ]
    }
}

impl ValueEnum for Arch {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).alias(self.goarch()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_understood() {
        for arch in Arch::ALL {
            assert_eq!(Arch::from_str(arch.name(), false), Ok(arch));
            assert_eq!(Arch::from_str(arch.goarch(), false), Ok(arch));
        }
        assert_eq!(
            Arch::Aarch64.cross_packages(),
            ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"]
        );
    }
}
