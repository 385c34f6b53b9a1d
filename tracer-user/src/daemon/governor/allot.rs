//! Divides the host's budget among targets.

/// How much of the host's budget a target needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// What it costs, or is expected to cost: nanoseconds of CPU time per second; 0 if it needs nothing.
    pub need_ns: u64,
    /// Whether it is probed already.
    pub is_probed: bool,
}

/// Part of the budget that is open to targets that are not probed yet, in percent. The rest lets probed ones grow a
/// little before one of them has to be detached.
const NEWCOMERS_PERCENT: u64 = 90;

/// What each target may cost, in the order of `demands`, in nanoseconds per second: at least what it needs, or 0. The
/// sum is at most `budget_ns`.
///
/// Probed targets stay probed as long as all of them fit; if not, the most expensive are dropped. Of the others the
/// cheapest come first, so that as many as possible are probed. What is left is divided equally among all of them.
pub fn allot(budget_ns: u64, demands: &[Demand]) -> Vec<u64> {
    let mut granted = vec![0; demands.len()];
    let mut left = budget_ns;
    let mut admitted = Vec::new();
    for is_probed in [true, false] {
        let reserve = match is_probed {
            true => 0,
            false => budget_ns - (u128::from(budget_ns) * u128::from(NEWCOMERS_PERCENT) / 100) as u64,
        };
        let mut those: Vec<(u64, usize)> = demands
            .iter()
            .enumerate()
            .filter(|(_, demand)| demand.is_probed == is_probed && demand.need_ns > 0)
            .map(|(index, demand)| (demand.need_ns, index))
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

    fn holds(need_ns: u64) -> Demand {
        Demand {
            need_ns,
            is_probed: true,
        }
    }

    fn wants(need_ns: u64) -> Demand {
        Demand {
            need_ns,
            is_probed: false,
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

    fn demands() -> impl Strategy<Value = Vec<Demand>> {
        vec(
            (0..400_u64, any::<bool>()).prop_map(|(need_ns, is_probed)| Demand { need_ns, is_probed }),
            0..30,
        )
    }

    proptest! {
        #[test]
        fn no_more_is_given_than_there_is_and_nobody_gets_too_little(budget in 0..5_000_u64, demands in demands()) {
            let granted = allot(budget, &demands);
            prop_assert_eq!(granted.len(), demands.len());
            prop_assert!(granted.iter().sum::<u64>() <= budget);
            for (grant, demand) in granted.iter().zip(&demands) {
                prop_assert!(*grant == 0 || (demand.need_ns > 0 && *grant >= demand.need_ns));
            }
        }

        #[test]
        fn newcomers_push_nobody_out(budget in 0..5_000_u64, demands in demands()) {
            let alone: Vec<Demand> = demands.iter().copied().filter(|demand| demand.is_probed).collect();
            let before = allot(budget, &alone).iter().filter(|grant| **grant > 0).count();
            let granted = allot(budget, &demands);
            let after = granted.iter().zip(&demands).filter(|(grant, demand)| demand.is_probed && **grant > 0).count();
            prop_assert_eq!(before, after);
        }

        #[test]
        fn the_order_of_demands_makes_no_difference(budget in 0..5_000_u64, demands in demands()) {
            let mut forwards: Vec<(u64, bool, u64)> = allot(budget, &demands)
                .iter().zip(&demands).map(|(grant, demand)| (demand.need_ns, demand.is_probed, *grant)).collect();
            let turned: Vec<Demand> = demands.iter().rev().copied().collect();
            let mut backwards: Vec<(u64, bool, u64)> = allot(budget, &turned)
                .iter().zip(&turned).map(|(grant, demand)| (demand.need_ns, demand.is_probed, *grant)).collect();
            forwards.sort_unstable();
            backwards.sort_unstable();
            prop_assert_eq!(forwards, backwards);
        }
    }
}
