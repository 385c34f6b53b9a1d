//! A plugin that a process has loaded: its file, and where that is mapped.

use std::collections::BTreeMap;

use super::{Process, file::ProgramFile, modules::LoadedModule, target};
use crate::{
    binary::{Frame, GoBinary, GoVersion, SymbolTable},
    error::{Error, Result},
    escape::Untrusted,
};

/// A plugin in a process. Its file stays open, and is mapped only while something is looked up in it.
#[derive(Debug)]
pub struct Plugin {
    /// Its file.
    pub file: ProgramFile,
    /// Run-time minus link-time address (wrapping).
    pub bias: u64,
    /// Begin and end addresses of its Go code in the process.
    text: (u64, u64),
    symbols: SymbolTable,
}

impl Plugin {
    /// Opens a module of a process and passes it to `analyse` while its file is mapped. It is proven that the process has
    /// mapped this very file, and that it is this module. `version` is that of the Go that built the program. Returns the
    /// module's name, too, whatever the outcome.
    ///
    /// # Errors
    /// The file cannot be read, is another one by now, or is refused by `analyse`.
    pub fn open<T>(
        process: &Process,
        module: &LoadedModule,
        version: &GoVersion,
        analyse: impl FnOnce(&GoBinary<'_>) -> Result<T>,
    ) -> (Untrusted, Result<(Self, T)>) {
        match process.open_code_at(module.text.0) {
            Ok(file) => {
                let name = file.name().clone();
                (name, Self::of_file(process, file, module, version, analyse))
            }
            Err(e) => (format!("at {:#x}", module.text.0).into(), Err(e)),
        }
    }

    fn of_file<T>(
        process: &Process,
        file: ProgramFile,
        module: &LoadedModule,
        version: &GoVersion,
        analyse: impl FnOnce(&GoBinary<'_>) -> Result<T>,
    ) -> Result<(Self, T)> {
        let mapping = file.map()?;
        let name = file.name().to_string();
        let made = GoBinary::parse_plugin(&mapping, &name, version).and_then(|binary| {
            let bias = process.load_bias(&file, binary.image().segments())?;
            let text = binary.facts().text;
            if (text.0.wrapping_add(bias), text.1.wrapping_add(bias)) != module.text {
                return Err(Error::not_traceable(format!(
                    "{name}: its code does not lie where the runtime has this module"
                )));
            }
            Ok((bias, binary.symbol_table(), analyse(&binary)?))
        });
        let (bias, symbols, seen) = mapping.judge(&name, made)?;
        let plugin = Self {
            file,
            bias,
            text: module.text,
            symbols,
        };
        Ok((plugin, seen))
    }

    /// Whether an address in the process lies in its code, or right behind it, as the return address of a call may.
    pub fn contains(&self, address: u64) -> bool {
        (self.text.0..=self.text.1).contains(&address)
    }

    /// As [`Target::creation_sites`](super::Target::creation_sites).
    pub fn creation_sites(&self, gopcs: impl IntoIterator<Item = u64>) -> Result<BTreeMap<u64, Untrusted>> {
        target::creation_sites(&self.file, &self.symbols, self.bias, gopcs)
    }

    /// As [`Target::frames`](super::Target::frames).
    pub fn frames(&self, pcs: impl IntoIterator<Item = u64>) -> Result<BTreeMap<u64, Vec<Frame>>> {
        target::frames(&self.file, &self.symbols, self.bias, pcs)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
    };

    use super::*;
    use crate::{
        binary::{
            Arch, layout,
            testing::{Build, Go},
        },
        process::{Target, memory::ProcessMemory, modules::ModuleList},
    };

    /// A program that has loaded a plugin: the runtime's list leads to it, and its functions have their names.
    #[test]
    fn a_plugin_is_found_in_a_process() {
        for go in Go::all() {
            let (host, plugin) = (go.build(Build::PluginHost), go.build(Build::Plugin));
            let plugin = plugin.canonicalize().unwrap();
            let mut child = Command::new(host)
                .arg(&plugin)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            let mut said = BufReader::new(child.stdout.take().unwrap());
            said.read_line(&mut line).unwrap();
            assert_eq!(line, "loaded\n", "{}", go.version);
            let pid = i32::try_from(child.id()).unwrap();
            let (target, first) = Target::of_process(pid, |_, binary| Ok(binary.module().address)).unwrap();
            let version = &target.facts.version;
            let (layout, _) = layout::find(version, Arch::Amd64, &[]).unwrap();
            let list = ModuleList::new(target.in_process(first), &layout.moduledata);
            let modules = list.after(&ProcessMemory::new(child.id()), None).unwrap();
            let [module] = modules.as_slice() else {
                panic!("{}: {modules:?}", go.version)
            };
            let process = target.process.as_ref().unwrap();
            let (path, opened) = Plugin::open(process, module, version, |binary| {
                Ok(crate::binary::Code::functions(binary, "runtime.ready"))
            });
            assert_eq!(path, plugin.display().to_string(), "{}", go.version);
            let (opened, ready) = opened.unwrap();
            let ready = ready.first().unwrap().start.wrapping_add(opened.bias);
            assert!(opened.contains(ready), "{}", go.version);
            let names = opened.creation_sites([ready + 1]).unwrap();
            assert_eq!(names[&(ready + 1)], "runtime.ready", "{}", go.version);
            // The program's own tables do not have it.
            assert!(target.creation_sites([ready + 1]).unwrap().is_empty());
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
