//! Looks that are being made, and those that never end: a program may lie on a file system whose server does not
//! answer (FUSE, NFS), and whoever opens it there sleeps. Such a look is given up, and until it comes back nobody else
//! is sent to that file system.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::census::Ticket;

/// A look takes some milliseconds, decoding a very large binary on a busy host a second; one that takes so long does
/// not end.
const STUCK_NS: u64 = 10_000_000_000;
/// Looks that are given up at most: each is a thread that sleeps until its file system answers.
const MOST_STUCK: usize = 16;

/// What a look is at, and where it should not go.
#[derive(Clone, Debug, Default)]
pub struct Errand {
    device: Arc<AtomicU64>,
    silent: Arc<BTreeSet<u64>>,
}

impl Errand {
    /// The look goes to a file on this device. False if nobody answers there.
    pub fn goes_to(&self, device: u64) -> bool {
        self.device.store(device, Ordering::Relaxed);
        !self.silent.contains(&device)
    }
}

/// All looks that have not come back.
#[derive(Debug, Default)]
pub struct Looks {
    /// When each began, by the ticket's number.
    at: BTreeMap<u64, (Ticket, u64, Errand)>,
    /// Where those are that were given up.
    stuck: BTreeMap<u64, u64>,
    silent: Arc<BTreeSet<u64>>,
}

impl Looks {
    /// A look begins.
    pub fn begin(&mut self, ticket: Ticket, now_ns: u64) -> Errand {
        let errand = Errand {
            device: Arc::default(),
            silent: Arc::clone(&self.silent),
        };
        self.at.insert(ticket.number, (ticket, now_ns, errand.clone()));
        errand
    }

    /// A look has come back. False if it was given up before.
    pub fn came_back(&mut self, ticket: Ticket) -> bool {
        if self.stuck.remove(&ticket.number).is_some() {
            self.note_silent();
            return false;
        }
        self.at.remove(&ticket.number).is_some()
    }

    /// Looks that are given up now.
    pub fn give_up(&mut self, now_ns: u64) -> Vec<Ticket> {
        let mut given_up = Vec::new();
        // In the order in which they began.
        while let Some(first) = self.at.first_entry()
            && now_ns.saturating_sub(first.get().1) >= STUCK_NS
            && self.stuck.len() < MOST_STUCK
        {
            let (number, (ticket, _, errand)) = first.remove_entry();
            self.stuck.insert(number, errand.device.load(Ordering::Relaxed));
            given_up.push(ticket);
        }
        if !given_up.is_empty() {
            self.note_silent();
        }
        given_up
    }

    /// When [`Self::give_up`] has something to do, if nothing comes back.
    pub fn next_due(&self) -> Option<u64> {
        let (_, began_ns, _) = self.at.values().next()?;
        (self.stuck.len() < MOST_STUCK).then(|| began_ns.saturating_add(STUCK_NS))
    }

    fn note_silent(&mut self) {
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
    fn one_that_never_ends_is_given_up_once_and_its_device_left_alone_until_it_comes_back() {
        let mut looks = Looks::default();
        let sleeper = looks.begin(ticket(1), 5);
        assert!(sleeper.goes_to(77));
        let other = looks.begin(ticket(2), 6);
        assert!(other.goes_to(8));
        assert!(looks.came_back(ticket(2)));
        assert_eq!(looks.next_due(), Some(5 + STUCK_NS));
        assert_eq!(looks.give_up(4 + STUCK_NS), []);
        assert_eq!(looks.give_up(5 + STUCK_NS), [ticket(1)]);
        assert_eq!((looks.give_up(u64::MAX), looks.next_due()), (vec![], None));
        assert!(!looks.begin(ticket(3), 7).goes_to(77));
        assert!(looks.begin(ticket(4), 7).goes_to(8));
        assert!(!looks.came_back(ticket(1)), "what it saw is old");
        assert!(looks.begin(ticket(5), 8).goes_to(77), "it answers again");
    }

    #[test]
    fn no_more_are_given_up_than_there_may_be_sleepers() {
        let mut looks = Looks::default();
        for number in 0..2 * MOST_STUCK as u64 {
            looks.begin(ticket(number), 0).goes_to(number);
        }
        assert_eq!(looks.give_up(STUCK_NS).len(), MOST_STUCK);
        assert_eq!((looks.give_up(2 * STUCK_NS), looks.next_due()), (vec![], None));
        assert!(!looks.came_back(ticket(3)));
        assert_eq!(looks.give_up(2 * STUCK_NS).len(), 1);
        assert!(!looks.came_back(ticket(99)), "nobody was sent there");
    }
}
