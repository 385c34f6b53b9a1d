//! Measures the agreement tables and writes them to docs/accuracy.md, or to the file given as argument.

use std::path::PathBuf;

fn main() -> anyhow::Result<()> {
    let file = std::env::args_os().nth(1).map_or_else(
        || gmpscope_tests::environment::package().join("../docs/accuracy.md"),
        PathBuf::from,
    );
    let tables = gmpscope_tests::agreement::tables(|row| eprintln!("{row}"))?;
    gmpscope_tests::agreement::write(&file, &tables)
}
