//! Layouts and addresses of variables against the memory of real, stripped, running Go programs.

mod go;

use std::cell::Cell;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use go::{Binary, Build, toolchain, toolchains};
use tracer_user::binary::GoBinary;
use tracer_user::plan::Program;
use tracer_user::process::memory::{Memory, ProcessMemory, ReadError};
use tracer_user::{
    binary::layout::{self, Layout, LayoutSource, find},
    process::layout::{Verdict, check_live},
};
use tracer_user::{
    binary::{Arch, Globals, GoVersion, globals},
    process::Target,
};

/// Goroutines that wait, sleep and run, on several Ms; says when all are there.
const BUSY: &str = "
import (\"os\"; \"runtime\"; \"time\")
func main() {
	for i := 0; i < 40; i++ { go func() { for { time.Sleep(time.Millisecond) } }() }
	for i := 0; i < 3; i++ { go func() { runtime.LockOSThread(); for { time.Sleep(100 * time.Microsecond) } }() }
	time.Sleep(20 * time.Millisecond)
	os.Stdout.WriteString(\"ready\")
	select {}
}";

/// Goroutines that hand over to each other, are born and die as fast as they can, on all Ps: nothing is the
/// same at two moments.
const HOT: &str = "
import \"os\"
func main() {
	for i := 0; i < 4; i++ {
		ping, pong := make(chan int), make(chan int)
		go func() { for v := range ping { pong <- v } }()
		go func() { for { ping <- 1; <-pong } }()
	}
	go func() { for { done := make(chan int); go func() { grow(50); close(done) }(); <-done } }()
	os.Stdout.WriteString(\"ready\")
	select {}
}
func grow(n int) int { var big [512]byte; if n == 0 { return int(big[n]) }; return grow(n-1) + int(big[n]) }";

/// The goroutine that is locked to the first thread ends, and with it m0, which is counted as freed and stays in `allm`.
const WITHOUT_M0: &str = "
import (\"os\"; \"runtime\"; \"time\")
func init() { runtime.LockOSThread() }
func main() {
	go func() {
		time.Sleep(100 * time.Millisecond)
		os.Stdout.WriteString(\"ready\")
		for { time.Sleep(time.Millisecond) }
	}()
	runtime.Goexit()
}";

/// A running program, ended with the test.
struct Running {
    child: Child,
    binary: Binary,
}

impl Running {
    fn start(binary: Binary) -> Self {
        let mut child = Command::new(binary.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 5];
        child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
        Running { child, binary }
    }

    fn program(&self, of: impl FnOnce(&GoBinary<'_>) -> Program) -> Program {
        let bytes = self.binary.bytes();
        of(&GoBinary::parse(&bytes, "a test's program").unwrap())
    }

    /// Its memory, load bias, and what `look` finds in its code.
    fn look<T>(
        &self,
        look: impl FnOnce(&dyn Fn(Option<&Layout>) -> Globals) -> T,
    ) -> (ProcessMemory, u64, T) {
        let pid = i32::try_from(self.child.id()).unwrap();
        let (target, found) =
            Target::of_process(pid, |_, binary| Ok(look(&|layout| globals::find(binary, layout)))).unwrap();
        (ProcessMemory::new(self.child.id()), target.load_bias, found)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn stripped(pie: bool) -> Build<'static> {
    let flags: &[&str] = if pie {
        &["-ldflags=-s -w", "-buildmode=pie"]
    } else {
        &["-ldflags=-s -w"]
    };
    Build {
        flags,
        ..Build::default()
    }
}

#[test]
fn the_memory_of_every_toolchains_programs_confirms_what_was_decoded() {
    for toolchain in toolchains() {
        let name = &toolchain.version.raw;
        let running = Running::start(toolchain.build(BUSY, stripped(toolchain.version.minor % 2 == 1)));
        let layout = layout::find(&toolchain.version, Arch::Amd64, &[]).unwrap().0;
        let (memory, bias, globals) = running.look(|find| find(Some(&layout)));
        let check = check_live(&memory, &globals, bias, Some(&layout));
        for (variable, verdict) in check.verdicts() {
            assert_eq!(*verdict, Verdict::Confirmed, "{name}: {variable}");
        }
        assert_eq!(check.believed(&globals), globals);
        // One call does it all.
        let program = running.program(|binary| Program::of(binary, false));
        let live = program.live(&memory, bias);
        assert_eq!(
            (live.reading.layout.clone().unwrap(), live.globals),
            ((layout, LayoutSource::Table), globals.clone())
        );
        // Without a layout only what needs none is said.
        let bare = check_live(&memory, &globals, bias, None);
        assert_eq!(bare.gomaxprocs, Verdict::Confirmed, "{name}");
        assert!(matches!(bare.sched, Verdict::Unchecked(_)), "{name}");
    }
}

#[test]
fn nothing_is_refuted_because_the_program_runs_on() {
    for minor in [19, 23, 27] {
        let toolchain = toolchain(minor);
        let running = Running::start(toolchain.build(HOT, stripped(false)));
        let layout = find(&toolchain.version, Arch::Amd64, &[]).unwrap().0;
        let (memory, bias, globals) = running.look(|find| find(Some(&layout)));
        for round in 0..200 {
            let check = check_live(&memory, &globals, bias, Some(&layout));
            assert!(check.confirms_layout(), "1.{minor}, round {round}: {check:?}");
        }
    }
}

#[test]
fn a_first_m_that_is_parked_for_good_refutes_nothing() {
    for toolchain in toolchains() {
        let running = Running::start(toolchain.build(WITHOUT_M0, stripped(false)));
        let layout = find(&toolchain.version, Arch::Amd64, &[]).unwrap().0;
        let (memory, bias, globals) = running.look(|find| find(Some(&layout)));
        let check = check_live(&memory, &globals, bias, Some(&layout));
        let name = &toolchain.version.raw;
        assert!(check.confirms_layout(), "{name}: {check:?}");
    }
}

#[test]
fn wrong_addresses_and_wrong_layouts_are_refuted() {
    let toolchain = toolchain(27);
    let running = Running::start(toolchain.build(BUSY, stripped(false)));
    let right = find(&toolchain.version, Arch::Amd64, &[]).unwrap().0;
    let (memory, bias, globals) = running.look(|find| find(Some(&right)));
    let refuted = |verdict: &Verdict| matches!(verdict, Verdict::Refuted(_));

    // Each variable at another one's place.
    let shuffled = Globals {
        sched: globals.allgs,
        time_to_run: globals.allp,
        allp: globals.allm,
        allgs: globals.sched,
        allm: globals.allp,
        gomaxprocs: globals.allm,
    };
    let check = check_live(&memory, &shuffled, bias, Some(&right));
    for (variable, verdict) in check.verdicts() {
        assert!(
            refuted(verdict) || *verdict == Verdict::Unset,
            "{variable}: {verdict:?}"
        );
    }
    // One at another one's place, all others right: zeros count against it too.
    let right_but = |change: fn(&mut Globals, &Globals)| {
        let mut wrong = globals.clone();
        change(&mut wrong, &globals);
        check_live(&memory, &wrong, bias, Some(&right))
    };
    let sched = right_but(|wrong, right| wrong.sched = right.allgs);
    assert!(
        refuted(&sched.sched) && sched.allgs == Verdict::Confirmed,
        "{sched:?}"
    );
    assert_eq!(sched.believed(&globals).sched, None);
    assert!(refuted(&right_but(|wrong, right| wrong.allp = right.allgs).allp));
    assert!(refuted(&right_but(|wrong, right| wrong.allgs = right.allp).allgs));
    assert!(refuted(&right_but(|wrong, right| wrong.allm = right.allp).allm));
    assert!(refuted(
        &right_but(|wrong, right| wrong.gomaxprocs = right.allm).gomaxprocs
    ));
    assert!(refuted(
        &right_but(|wrong, right| wrong.time_to_run = right.sched).time_to_run
    ));

    // Nothing is mapped there.
    let nowhere = check_live(&memory, &globals, bias.wrapping_add(1 << 45), Some(&right));
    assert!(nowhere.verdicts().iter().all(|(_, v)| refuted(v)), "{nowhere:?}");

    // Another version's layout, and single fields that are off by a word.
    let old = find(&of(24, 11), Arch::Amd64, &[]).unwrap().0;
    assert!(!check_live(&memory, &globals, bias, Some(&old)).confirms_layout());
    let mut layouts = [
        right.clone(),
        right.clone(),
        right.clone(),
        right.clone(),
        right.clone(),
    ];
    layouts[0].m.alllink -= 24;
    layouts[1].g.goid += 8;
    layouts[2].p.runqhead += 8;
    layouts[3].sched.mnext += 8;
    layouts[4].g.m -= 8;
    for (nth, layout) in layouts.iter().enumerate() {
        let check = check_live(&memory, &globals, bias, Some(layout));
        assert!(
            check.verdicts().iter().any(|(_, v)| refuted(v)),
            "layout {nth}: {check:?}"
        );
    }
}

/// A process's memory as it was before the runtime was set up, for the first so many reads.
struct Starting<'a> {
    memory: &'a ProcessMemory,
    /// What is zero then: `(address, length)`.
    unset: &'a [(u64, usize)],
    left: Cell<u32>,
}

impl Memory for Starting<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.memory.read(address, into)?;
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        for (at, byte) in (address..).zip(into) {
            let is_in = |(start, length): &(u64, usize)| (*start..*start + *length as u64).contains(&at);
            if left > 0 && self.unset.iter().any(is_in) {
                *byte = 0;
            }
        }
        Ok(())
    }
}

#[test]
fn a_runtime_that_is_being_set_up_refutes_nothing() {
    let toolchain = toolchain(27);
    let running = Running::start(toolchain.build(BUSY, stripped(false)));
    let layout = find(&toolchain.version, Arch::Amd64, &[]).unwrap().0;
    let (memory, bias, globals) = running.look(|find| find(Some(&layout)));
    let at = |address: Option<u64>| address.unwrap().wrapping_add(bias);
    let (allp, allgs, gomaxprocs) = (at(globals.allp), at(globals.allgs), at(globals.gomaxprocs));
    let elements = memory.read_u64(allp).unwrap();
    // Nothing is set; or the slice of Ps is made, and its elements are not (procresize, proc.go).
    let nothing = [(allp, 24), (allgs, 24), (gomaxprocs, 4)];
    let halfway = [(elements, 8), (allgs, 24), (gomaxprocs, 4)];
    for unset in [&nothing, &halfway] {
        for reads in 0..60 {
            let starting = Starting {
                memory: &memory,
                unset,
                left: Cell::new(reads),
            };
            let check = check_live(&starting, &globals, bias, Some(&layout));
            for (variable, verdict) in check.verdicts() {
                assert!(
                    matches!(verdict, Verdict::Confirmed | Verdict::Unset),
                    "{variable} after {reads} reads: {verdict:?}"
                );
            }
        }
    }
}

/// The memory of a process of which a thread was preempted when it had set one end of a new stack, and continues at
/// `resumes`.
struct Preempted<'a> {
    memory: &'a ProcessMemory,
    layout: &'a Layout,
    resumes: Instant,
}

impl Memory for Preempted<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.memory.read(address, into)?;
        let hi = self.layout.g.stack_hi as usize;
        if into.len() == self.layout.g.size as usize && Instant::now() < self.resumes {
            into[hi..hi + 8].copy_from_slice(&4096_u64.to_ne_bytes());
        }
        Ok(())
    }
}

#[test]
fn a_thread_that_is_preempted_within_a_change_refutes_nothing() {
    let toolchain = toolchain(27);
    let running = Running::start(toolchain.build(BUSY, stripped(false)));
    let layout = find(&toolchain.version, Arch::Amd64, &[]).unwrap().0;
    let (memory, bias, globals) = running.look(|find| find(Some(&layout)));
    let off_cpu_for = |time| {
        let preempted = Preempted {
            memory: &memory,
            layout: &layout,
            resumes: Instant::now() + time,
        };
        check_live(&preempted, &globals, bias, Some(&layout))
    };
    for millis in [0, 1, 3, 10, 20] {
        let check = off_cpu_for(Duration::from_millis(millis));
        assert!(check.confirms_layout(), "{millis} ms: {check:?}");
    }
    // What does not end is refuted.
    let check = off_cpu_for(Duration::from_secs(60));
    assert!(matches!(check.allgs, Verdict::Refuted(_)), "{check:?}");
}

#[test]
fn a_process_that_is_gone_confirms_and_refutes_nothing() {
    let toolchain = toolchain(27);
    let mut running = Running::start(toolchain.build(BUSY, stripped(false)));
    let layout = find(&toolchain.version, Arch::Amd64, &[]).unwrap().0;
    let (memory, bias, globals) = running.look(|find| find(Some(&layout)));
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    let check = check_live(&memory, &globals, bias, Some(&layout));
    for (variable, verdict) in check.verdicts() {
        assert!(
            matches!(verdict, Verdict::Unchecked(_)),
            "{variable}: {verdict:?}"
        );
    }
}

#[test]
fn a_patch_release_that_the_table_lacks_takes_the_neighbours_layout_that_memory_confirms() {
    // The program is 1.24.11's and says it is 1.24.5's, which lies between two releases with different m.
    let toolchain = toolchain(24);
    let claimed = of(24, 5);
    assert!(find(&claimed, Arch::Amd64, &[]).is_err());
    let running = Running::start(toolchain.build(BUSY, stripped(true)));
    let memory = ProcessMemory::new(running.child.id());
    let bias = running.look(|_| ()).1;
    let claiming = |claimed: &GoVersion| {
        running.program(|binary| {
            let layouts = layout::candidates(claimed, Arch::Amd64, &[], &running.binary.bytes());
            Program::with_layouts(binary, layouts, false)
        })
    };
    let program = claiming(&claimed);
    assert!(program.reading().layout.is_err());
    let live = program.live(&memory, bias);
    let (layout, source) = live.reading.layout.clone().expect("one of the two fits");
    assert_eq!(source, LayoutSource::Confirmed { like: 11 });
    assert_eq!(layout, find(&toolchain.version, Arch::Amd64, &[]).unwrap().0);
    assert!(live.globals.sched.is_some());

    // Another minor version's program confirms none of them.
    let program = claiming(&of(26, 99));
    let live = program.live(&memory, bias);
    assert!(live.reading.layout.is_err(), "{:?}", live.reading.layout);
}

/// The version is not a release: the layout of the release whose number it has is tried first, then those of others.
#[test]
fn a_vendors_version_takes_the_layout_that_memory_confirms_and_says_that_it_is_unproven() {
    for (minor, claimed, expected) in [
        (24, "go1.24.11 (Red Hat 1.24.11-1.el9)", Some((24, 11))),
        // Of this number is the layout of 1.24.3, in which m is another one.
        (24, "go1.24.3-corp", Some((24, 11))),
        (24, "go1.24rc1", Some((24, 11))),
        (27, "go1.28.1", Some((27, 3))),
        (27, "devel go1.28-abcdef Mon Nov 30 10:00:00 2026", Some((27, 3))),
        // Neither 1.19 nor 1.21 fits.
        (24, "go1.20.14", None),
    ] {
        let running = Running::start(toolchain(minor).build(BUSY, stripped(true)));
        let memory = ProcessMemory::new(running.child.id());
        let bias = running.look(|_| ()).1;
        let version = GoVersion::parse(claimed).unwrap();
        let program = running.program(|binary| {
            let layouts = layout::candidates(&version, Arch::Amd64, &[], &running.binary.bytes());
            Program::with_layouts(binary, layouts, false)
        });
        assert!(program.reading().layout.is_err(), "{claimed}");
        let live = program.live(&memory, bias);
        let found = live.reading.layout.as_ref().ok().map(|(_, source)| *source);
        let expected = expected.map(|(minor, patch)| LayoutSource::Unproven { minor, patch });
        assert_eq!(found, expected, "{claimed}");
        let says = live.reading.unproven_layout(&version);
        assert_eq!(says.is_some(), expected.is_some(), "{claimed}: {says:?}");
        assert!(says.is_none_or(|says| says.contains(claimed)), "{claimed}");
    }
}

fn of(minor: u32, patch: u32) -> GoVersion {
    let raw = format!("go1.{minor}.{patch}");
    GoVersion {
        raw,
        minor,
        patch,
        vendor_or_prerelease: None,
        experiments: vec![],
    }
}
