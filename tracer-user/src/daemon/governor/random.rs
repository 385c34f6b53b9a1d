//! Properties of the governor over random sequences of inputs: a target whose load changes arbitrarily, and a kernel
//! that lets no more hits through than the cap allows.

use proptest::{collection::vec, prelude::*};

use super::{budget::SECOND, *};
use crate::plan::Mode;

/// Cost of a hit, also of one that finds the target switched off.
const HIT: u64 = 1_000;
/// How long it takes to remove probes, in nanoseconds.
const DETACH: u64 = 40_000_000;

/// What the target does in a window, and one more input.
#[derive(Clone, Debug)]
struct Second {
    /// Waits that the runtime tracks.
    waits: u64,
    cpu_ns: u64,
    /// When in the window the input comes, in percent.
    at: u64,
    input: Option<Input>,
    /// Whether the attach that is under way succeeds.
    well: bool,
    /// Whether what is under way is done at once, or at the end of the window.
    at_once: bool,
}

fn highest() -> impl Strategy<Value = Option<Mode>> {
    prop_oneof![
        1 => Just(None),
        1 => Just(Some(Mode::Passive)),
        3 => Just(Some(Mode::Sampled)),
        3 => Just(Some(Mode::Exact)),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    (highest(), 0..20_u64, 1..20_u64, 0..300_000_u64).prop_map(|(highest, exact, share, floor_ns)| Settings {
        budget: Budget {
            share: share as f64 / 1_000.0,
            floor_ns,
        },
        highest,
        exact_ns: exact * SECOND,
        window_ns: SECOND,
    })
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        4 => settings().prop_map(Input::Rules),
        4 => (0..20_000_000_u64).prop_map(Input::Share),
        1 => Just(Input::Share(0)),
        1 => Just(Input::Ended),
        1 => Just(Input::Attached),
        1 => Just(Input::Detached),
        1 => Just(Input::Capped),
        1 => Just(Input::AttachFailed { why: "why".into() }),
    ]
}

fn second() -> impl Strategy<Value = Second> {
    let waits = prop_oneof![Just(0), 0..500_u64, 0..10_000_u64, 100_000..1_000_000_u64];
    let cpu = prop_oneof![Just(0), 0..SECOND / 100, 0..4 * SECOND];
    (
        waits,
        cpu,
        0..100_u64,
        proptest::option::weighted(0.1, input()),
        proptest::bool::weighted(0.9),
        any::<bool>(),
    )
        .prop_map(|(waits, cpu_ns, at, input, well, at_once)| Second {
            waits,
            cpu_ns,
            at,
            input,
            well,
            at_once,
        })
}

/// What is attached in the kernel.
#[derive(Clone, Debug, Default)]
struct Kernel {
    attached: Option<Mode>,
    off: bool,
    limit: u64,
    let_through: u64,
    /// All hits of this window, let through or not.
    hits: u64,
}

/// Carries out effects without a kernel, and checks each of them.
struct World {
    governor: Governor,
    settings: Settings,
    ended: bool,
    now_ns: u64,
    kernel: Kernel,
    attaching: Option<(Mode, u64)>,
    detaching: bool,
    tier: Option<Mode>,
    cpu_ns: u64,
    share_ns: u64,
    /// Hits of the last window.
    last_hits: u64,
    history: Vec<Effect>,
}

impl World {
    fn new(settings: Settings) -> Self {
        let mut world = Self {
            governor: Governor::new(settings),
            settings,
            ended: false,
            now_ns: SECOND,
            kernel: Kernel::default(),
            attaching: None,
            detaching: false,
            tier: settings.highest.map(|_| Mode::Passive),
            cpu_ns: 0,
            share_ns: 0,
            last_hits: 0,
            history: vec![],
        };
        for mode in [Mode::Sampled, Mode::Exact] {
            world.apply(Input::Priced { mode, hit_ns: HIT });
        }
        world.apply(Input::Share(10_000_000));
        world
    }

    fn apply(&mut self, input: Input) {
        match &input {
            Input::Rules(settings) if !self.ended => self.settings = *settings,
            Input::Share(share) => self.share_ns = *share,
            Input::Ended => self.ended = true,
            Input::WindowOver(window) => self.cpu_ns = window.per_second(window.cpu_ns),
            _ => {}
        }
        for effect in self.governor.handle(self.now_ns, input) {
            self.carry_out(&effect);
            self.history.push(effect);
        }
        assert_eq!(self.governor.tier(), self.tier, "a step was not reported");
    }

    /// What a second may cost at the moment.
    fn allowed(&self) -> u64 {
        let own = self.settings.budget.allowed_ns(self.cpu_ns, SECOND);
        own.min(self.share_ns).max(HIT)
    }

    fn carry_out(&mut self, effect: &Effect) {
        match effect {
            Effect::Attach { mode, hits } => {
                assert!(
                    self.attaching.is_none() && self.kernel.attached.is_none(),
                    "two attaches"
                );
                assert!(!self.ended, "attaches to a process that is gone");
                assert!(
                    self.settings.highest.is_some_and(|highest| *mode <= highest),
                    "{mode} is not allowed"
                );
                assert!(*mode != Mode::Exact || self.settings.exact_ns > 0, "nobody asked");
                assert!(hits * HIT <= self.allowed(), "{hits} hits are too many");
                self.attaching = Some((*mode, *hits));
            }
            Effect::BeginWindow { hits } => {
                assert!(self.kernel.attached.is_some() && !self.detaching);
                assert!(hits * HIT <= self.allowed(), "{hits} hits are too many");
                if !self.kernel.off {
                    self.kernel.limit = *hits;
                    self.kernel.let_through = 0;
                }
            }
            Effect::Detach => {
                assert!(
                    self.kernel.attached.is_some() && !self.detaching,
                    "detaches nothing"
                );
                self.kernel.off = true;
                self.detaching = true;
            }
            Effect::Step(step) => {
                assert_eq!(step.from, self.tier, "{step:?}");
                assert_ne!(step.from, step.to);
                self.tier = step.to;
            }
        }
    }

    /// Finishes what is under way.
    fn answer(&mut self, well: bool) {
        if let Some((mode, limit)) = self.attaching.take() {
            if well {
                self.kernel = Kernel {
                    attached: Some(mode),
                    limit,
                    ..Kernel::default()
                };
                self.apply(Input::Attached);
            } else {
                self.apply(Input::AttachFailed { why: "well".into() });
            }
        } else if self.detaching {
            self.detaching = false;
            self.kernel.attached = None;
            self.apply(Input::Detached);
        }
    }

    /// Runs the target for a part of the second.
    fn run(&mut self, second: &Second, from: u64, to: u64) {
        let Some(mode) = self.kernel.attached else { return };
        let each = if mode == Mode::Exact { 16 } else { 1 };
        let part = |percent| second.waits * each * percent / 100;
        let mut hits = part(to) - part(from);
        if !self.kernel.off {
            let room = self.kernel.limit.saturating_sub(self.kernel.let_through);
            let through = hits.min(room);
            self.kernel.let_through += through;
            self.kernel.hits += through;
            hits -= through;
            assert!(self.kernel.let_through <= self.kernel.limit);
            if hits > 0 {
                self.kernel.off = true;
                self.apply(Input::Capped);
                assert!(self.detaching, "a target that is past its cap stays attached");
                // Each costs a trap until the probes are removed.
                let until_gone = second.waits * each * DETACH / SECOND;
                self.kernel.hits += hits.min(until_gone);
            }
        }
    }

    fn pass(&mut self, second: &Second) {
        if second.at_once {
            self.answer(second.well);
        }
        self.run(second, 0, second.at);
        if let Some(input) = second.input.clone() {
            // An answer that nothing asked for would contradict the state of this world.
            let answers = matches!(
                input,
                Input::Attached | Input::AttachFailed { .. } | Input::Detached | Input::Capped
            );
            if !answers || (self.attaching.is_none() && !self.detaching && self.kernel.attached.is_none()) {
                self.apply(input);
            }
        }
        self.run(second, second.at, 100);
        if !second.at_once {
            self.answer(second.well);
        }
        self.now_ns += SECOND;
        let hits = std::mem::take(&mut self.kernel.hits);
        self.last_hits = hits;
        self.apply(Input::WindowOver(Window {
            length_ns: SECOND,
            cpu_ns: second.cpu_ns,
            hits,
            tracked_waits: self.kernel.attached.is_none().then_some(second.waits),
        }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn never_above_what_is_allowed_and_never_two_at_once(settings in settings(), life in vec(second(), 0..120)) {
        let mut world = World::new(settings);
        let mut again = World::new(settings);
        for second in &life {
            world.pass(second);
            again.pass(second);
        }
        prop_assert_eq!(&world.history, &again.history, "not deterministic");
        world.apply(Input::Ended);
        for _ in 0..4 {
            world.answer(true);
        }
        prop_assert!(world.kernel.attached.is_none() && world.attaching.is_none(), "left attached");
        prop_assert_eq!(world.governor.tier(), None);
        let many = world.history.len();
        for second in &life {
            world.pass(&Second { input: None, ..second.clone() });
        }
        prop_assert_eq!(world.history.len(), many, "something is done for a process that is gone");
    }

    #[test]
    fn a_steady_load_is_attached_to_once_at_most(settings in settings(), waits in 0..20_000_u64, cpu in 0..4 * SECOND) {
        let mut world = World::new(settings);
        let second = Second { waits, cpu_ns: cpu, at: 50, input: None, well: true, at_once: true };
        for _ in 0..600 {
            world.pass(&second);
        }
        let of = |mode: Mode| world.history.iter()
            .filter(|effect| matches!(effect, Effect::Attach { mode: m, .. } if *m == mode)).count();
        prop_assert!(of(Mode::Sampled) <= 2 && of(Mode::Exact) <= 1, "{:?}", world.history);
    }

    #[test]
    fn a_ping_pong_burst_costs_little_from_its_second_window_on(
        idle in 2..50_usize, waits in 100_000..1_000_000_u64, cpu in SECOND / 2..2 * SECOND, at in 0..60_u64
    ) {
        let settings = Settings {
            budget: Budget { share: 0.005, floor_ns: 200_000 },
            highest: Some(Mode::Sampled),
            exact_ns: 0,
            window_ns: SECOND,
        };
        let mut world = World::new(settings);
        let quiet = Second { waits: 10, cpu_ns: 1_000_000, at, input: None, well: true, at_once: true };
        for _ in 0..idle {
            world.pass(&quiet);
        }
        let burst = Second { waits, cpu_ns: cpu, at_once: false, ..quiet };
        world.pass(&burst);
        for _ in 0..300 {
            world.pass(&burst);
            let cost = world.last_hits * HIT;
            prop_assert!(cost * 1_000 <= cpu * 7, "{cost} ns of {cpu} ns");
        }
    }
}
