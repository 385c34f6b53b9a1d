//! Each change of state that the model of `full` took, in a file: for tests, which compare them with what
//! `runtime/trace` says of the same run.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
};

use crate::{
    error::{Error, Result},
    escape::Untrusted,
    model::sched::Sched,
};

/// Names the file.
const CHANGES: &str = "GMPSCOPE_CHANGES";

/// A file that is being written.
pub struct Changes {
    file: BufWriter<File>,
    /// Ids of goroutines, by life.
    goids: BTreeMap<u32, u64>,
}

impl Changes {
    /// The file that the environment names, if it names one.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open() -> Result<Option<Self>> {
        let Some(path) = std::env::var_os(CHANGES).map(PathBuf::from) else {
            return Ok(None);
        };
        let file =
            File::create(&path).map_err(|e| Error::failed(format!("{}: {e}", Untrusted::path(&path))))?;
        Ok(Some(Self {
            file: BufWriter::new(file),
            goids: BTreeMap::new(),
        }))
    }

    /// Writes what has come: time, life, old state, new state, origin or reason by number, whether it was inferred.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, sched: &mut Sched) -> Result<()> {
        for change in sched.take_changes() {
            if let Some(goroutine) = sched.goroutine_of_life(change.g, change.life)
                && goroutine.goid != 0
            {
                self.goids.insert(change.life, goroutine.goid);
            }
            if change.goid != 0 {
                self.goids.insert(change.life, change.goid);
            }
            writeln!(
                self.file,
                "{} {} {} {} {} {}",
                change.at_ns,
                change.life,
                change.from.name(),
                change.to.name(),
                change.reason,
                u8::from(change.inferred)
            )
            .map_err(unwritable)?;
        }
        Ok(())
    }

    /// Writes whose life is which goroutine's: `goid`, life, id.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(mut self, sched: &mut Sched) -> Result<()> {
        self.write(sched)?;
        self.goids.extend(
            sched
                .goroutines()
                .filter(|goroutine| goroutine.goid != 0)
                .map(|goroutine| (goroutine.life, goroutine.goid)),
        );
        for (life, goid) in &self.goids {
            writeln!(self.file, "goid {life} {goid}").map_err(unwritable)?;
        }
        self.file.flush().map_err(unwritable)
    }
}

fn unwritable(e: std::io::Error) -> Error {
    Error::failed(format!("the file that {CHANGES} names: {e}"))
}
