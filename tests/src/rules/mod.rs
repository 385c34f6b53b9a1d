//! Findings on real programs: each rule must fire on a program with the pathology that it names, and be silent on the twin,
//! in which only that pathology is missing.

mod run;
pub mod scenes;
mod side;
pub mod table;

pub use run::{Compared, Said, compare};
pub use scenes::Scene;
pub use side::Side;
