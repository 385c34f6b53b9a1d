//! The inspections that are under way, and those that never end: a program may lie on a file system whose server does
//! not answer (FUSE, NFS), and a thread that opens it sleeps. Such an inspection is given up, and until it returns no
//! other touches that file system.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::census::Ticket;

/// An inspection takes some milliseconds, a second for a very large binary on a busy host; one that takes this long is
/// stuck.
const STUCK_NS: u64 = 10_000_000_000;
/// How many inspections are given up at most: each is a thread that sleeps until its file system answers.
const MAX_STUCK: usize = 16;

/// The devices that do not answer, for one inspection to check, and the device that it touches.
#[derive(Clone, Debug, Default)]
pub struct DeviceCheck {
    device: Arc<AtomicU64>,
    silent: Arc<BTreeSet<u64>>,
}

impl DeviceCheck {
    /// Records that a file on this device is about to be opened. False if the device does not answer.
    pub fn may_open(&self, device: u64) -> bool {
        self.device.store(device, Ordering::Relaxed);
        !self.silent.contains(&device)
    }
}

/// All inspections that have not returned.
#[derive(Debug, Default)]
pub struct InFlight {
    /// By the ticket's number: the ticket, when it began, and where it is.
    running: BTreeMap<u64, (Ticket, u64, DeviceCheck)>,
    /// The device of each that was given up, by the ticket's number.
    stuck: BTreeMap<u64, u64>,
    silent: Arc<BTreeSet<u64>>,
}

impl InFlight {
    /// Begins an inspection.
    pub fn begin(&mut self, ticket: Ticket, now_ns: u64) -> DeviceCheck {
        let check = DeviceCheck {
            device: Arc::default(),
            silent: Arc::clone(&self.silent),
        };
        self.running
            .insert(ticket.number, (ticket, now_ns, check.clone()));
        check
    }

    /// Ends an inspection that has returned. False if it was given up before.
    pub fn finished(&mut self, ticket: Ticket) -> bool {
        if self.stuck.remove(&ticket.number).is_some() {
            self.update_silent();
            return false;
        }
        self.running.remove(&ticket.number).is_some()
    }

    /// Gives up the inspections that are stuck.
    pub fn give_up(&mut self, now_ns: u64) -> Vec<Ticket> {
        let mut given_up = Vec::new();
        // In the order in which they began.
        while let Some(first) = self.running.first_entry()
            && now_ns.saturating_sub(first.get().1) >= STUCK_NS
            && self.stuck.len() < MAX_STUCK
        {
            let (number, (ticket, _, check)) = first.remove_entry();
            self.stuck.insert(number, check.device.load(Ordering::Relaxed));
            given_up.push(ticket);
        }
        if !given_up.is_empty() {
            self.update_silent();
        }
        given_up
    }

    /// When [`Self::give_up`] has something to do, if nothing returns before.
    pub fn next_due(&self) -> Option<u64> {
        let (_, began_ns, _) = self.running.values().next()?;
        (self.stuck.len() < MAX_STUCK).then(|| began_ns.saturating_add(STUCK_NS))
    }

    fn update_silent(&mut self) {
        self.silent = Arc::new(self.stuck.values().copied().collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(number: u64) -> Ticket {
        Ticket {
            pid: 100 + number as u32,
            number,
        }
    }

    #[test]
    fn one_that_never_ends_is_given_up_once_and_its_device_left_alone_until_it_returns() {
        let mut in_flight = InFlight::default();
        let sleeper = in_flight.begin(ticket(1), 5);
        assert!(sleeper.may_open(77));
        let other = in_flight.begin(ticket(2), 6);
        assert!(other.may_open(8));
        assert!(in_flight.finished(ticket(2)));
        assert_eq!(in_flight.next_due(), Some(5 + STUCK_NS));
        assert_eq!(in_flight.give_up(4 + STUCK_NS), []);
        assert_eq!(in_flight.give_up(5 + STUCK_NS), [ticket(1)]);
        assert_eq!(
            (in_flight.give_up(u64::MAX), in_flight.next_due()),
            (vec![], None)
        );
        assert!(!in_flight.begin(ticket(3), 7).may_open(77));
        assert!(in_flight.begin(ticket(4), 7).may_open(8));
        assert!(!in_flight.finished(ticket(1)), "its result is out of date");
        assert!(in_flight.begin(ticket(5), 8).may_open(77), "it answers again");
    }

    #[test]
    fn no_more_are_given_up_than_there_may_be_sleepers() {
        let mut in_flight = InFlight::default();
        for number in 0..2 * MAX_STUCK as u64 {
            in_flight.begin(ticket(number), 0).may_open(number);
        }
        assert_eq!(in_flight.give_up(STUCK_NS).len(), MAX_STUCK);
        assert_eq!(
            (in_flight.give_up(2 * STUCK_NS), in_flight.next_due()),
            (vec![], None)
        );
        assert!(!in_flight.finished(ticket(3)));
        assert_eq!(in_flight.give_up(2 * STUCK_NS).len(), 1);
        assert!(!in_flight.finished(ticket(99)), "there is no such inspection");
    }
}
