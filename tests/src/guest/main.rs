//! The first process of a virtual machine: turns an initramfs into a system in which gmpscope can run, checks it there
//! as the tests do outside, prints a line of JSON for each check, and switches the machine off.
//!
//! `cargo xtask vm` builds it, boots it and reads what it prints.

mod checks;
mod finding;
mod machine;

use finding::Finding;

fn main() {
    let outcome = machine::set_up().and_then(|()| checks::all());
    let end = match outcome {
        Ok(()) => Finding::finished(),
        Err(why) => Finding::of("guest").failed(&why),
    };
    end.print();
    machine::power_off();
}
