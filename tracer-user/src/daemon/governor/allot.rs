//! Sharing the host's budget out.

/// What a target asks of the host's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What it costs, or is expected to: nanoseconds of CPU time for each second. 0: it asks for nothing.
    pub need_ns: u64,
    /// Whether it is probed already.
    pub holds: bool,
}

/// Share of the budget that targets may take which are not probed yet, in percent: those that are may grow a little
/// before one of them has to leave.
const FOR_NEWCOMERS: u64 = 90;

/// What each may cost, in the order of the asks, in nanoseconds for each second: at least what it needs, or 0. Together
/// no more than `budget_ns`.
///
/// Who is probed stays, as long as all of those fit; else the dearest leave. Of the others the cheapest come first, so
/// that as many as possible are probed. What is left over is for all that are, in equal parts.
pub fn allot(budget_ns: u64, asks: &[Ask]) -> Vec<u64> {
    let mut granted = vec![0; asks.len()];
    let mut left = budget_ns;
    let mut admitted = Vec::new();
    for holds in [true, false] {
        let reserve = match holds {
            true => 0,
            false => budget_ns - (u128::from(budget_ns) * u128::from(FOR_NEWCOMERS) / 100) as u64,
        };
        let mut those: Vec<(u64, usize)> = asks
            .iter()
            .enumerate()
            .filter(|(_, ask)| ask.holds == holds && ask.need_ns > 0)
            .map(|(index, ask)| (ask.need_ns, index))
            .collect();
        those.sort_unstable();
        for (need, index) in those {
            let Some(rest) = left.checked_sub(need).filter(|rest| *rest >= reserve) else {
                break;
            };
            left = rest;
            admitted.push((need, index));
        }
    }
    let more = left.checked_div(admitted.len() as u64).unwrap_or(0);
    for (need, index) in admitted {
        if let Some(grant) = granted.get_mut(index) {
            *grant = need + more;
        }
    }
    granted
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn holds(need_ns: u64) -> Ask {
        Ask { need_ns, holds: true }
    }

    fn wants(need_ns: u64) -> Ask {
        Ask {
            need_ns,
            holds: false,
        }
    }

    #[test]
    fn what_is_left_over_is_shared_equally() {
        assert_eq!(allot(1_000, &[wants(100), wants(0), holds(300)]), [400, 0, 600]);
        assert_eq!(allot(1_000, &[]), [] as [u64; 0]);
    }

    #[test]
    fn the_cheapest_come_first_and_who_is_there_stays() {
        assert_eq!(allot(1_000, &[wants(700), wants(100), wants(200)])[0], 0);
        assert!(allot(1_000, &[holds(700), wants(100), wants(200)])[0] >= 700);
    }

    #[test]
    fn the_dearest_leaves_where_not_all_fit_any_more() {
        let granted = allot(1_000, &[holds(700), holds(350), holds(100)]);
        assert_eq!(granted[0], 0);
        assert!(granted[1] >= 350 && granted[2] >= 100);
    }

    #[test]
    fn who_has_left_does_not_come_back_at_once() {
        assert_eq!(allot(1_000, &[holds(940)]), [1_000]);
        assert_eq!(allot(1_000, &[wants(940)]), [0]);
    }

    fn asks() -> impl Strategy<Value = Vec<Ask>> {
        vec(
            (0..400_u64, any::<bool>()).prop_map(|(need_ns, holds)| Ask { need_ns, holds }),
            0..30,
        )
    }

    proptest! {
        #[test]
        fn no_more_is_given_than_there_is_and_nobody_gets_too_little(budget in 0..5_000_u64, asks in asks()) {
            let granted = allot(budget, &asks);
            prop_assert_eq!(granted.len(), asks.len());
            prop_assert!(granted.iter().sum::<u64>() <= budget);
            for (grant, ask) in granted.iter().zip(&asks) {
                prop_assert!(*grant == 0 || (ask.need_ns > 0 && *grant >= ask.need_ns));
            }
        }

        #[test]
        fn newcomers_push_nobody_out(budget in 0..5_000_u64, asks in asks()) {
            let alone: Vec<Ask> = asks.iter().copied().filter(|ask| ask.holds).collect();
            let before = allot(budget, &alone).iter().filter(|grant| **grant > 0).count();
            let granted = allot(budget, &asks);
            let after = granted.iter().zip(&asks).filter(|(grant, ask)| ask.holds && **grant > 0).count();
            prop_assert_eq!(before, after);
        }

        #[test]
        fn the_order_of_asking_makes_no_difference(budget in 0..5_000_u64, asks in asks()) {
            let mut forwards: Vec<(u64, bool, u64)> = allot(budget, &asks)
                .iter().zip(&asks).map(|(grant, ask)| (ask.need_ns, ask.holds, *grant)).collect();
            let turned: Vec<Ask> = asks.iter().rev().copied().collect();
            let mut backwards: Vec<(u64, bool, u64)> = allot(budget, &turned)
                .iter().zip(&turned).map(|(grant, ask)| (ask.need_ns, ask.holds, *grant)).collect();
            forwards.sort_unstable();
            backwards.sort_unstable();
            prop_assert_eq!(forwards, backwards);
        }
    }
}
