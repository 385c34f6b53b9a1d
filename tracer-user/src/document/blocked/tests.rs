use super::*;
use crate::stream::Symbolizer;

/// A symbolizer of three addresses; at one of them a function was inlined.
struct Source;

impl Symbolizer for Source {
    fn function_at(&self, gopc: u64) -> Option<Untrusted> {
        (gopc == 0x40).then(|| "main.start".into())
    }

    fn frames(&self, pcs: &[u64]) -> BTreeMap<u64, Vec<Frame>> {
        let frame = |function: &str, line| Frame {
            function: function.into(),
            place: Some(("/src/main.go".into(), line)),
        };
        let known = BTreeMap::from([
            (0x10, vec![frame("runtime.gopark", 1)]),
            (0x20, vec![frame("main.inner", 2), frame("main.outer", 3)]),
            (0x30, vec![frame("runtime.goexit", 4)]),
            (0x40, vec![frame("main.start", 5)]),
        ]);
        known.into_iter().filter(|(pc, _)| pcs.contains(pc)).collect()
    }
}

fn place(pcs: &[u64], end: u32, gopc: u64, total_ns: u64) -> PlaceReport {
    PlaceReport {
        stack: StackSeen {
            id: 1,
            pcs: pcs.to_vec(),
            end,
        },
        reason: "chan receive".to_owned(),
        gopc,
        blocked: Blocked {
            count: 2,
            ongoing: 1,
            total_ns,
            max_ns: total_ns / 2,
        },
    }
}

fn built(places: Vec<PlaceReport>) -> (Vec<BlockedAt>, StacksInfo) {
    let report = StacksReport {
        walked: 9,
        different: 3,
        places,
        elsewhere: Blocked::default(),
    };
    let named = Named {
        symbolizer: &Source,
        begin_ns: 0,
    };
    build(
        &report,
        &named,
        &Lost {
            full: 4,
            unreadable: 5,
        },
    )
}

#[test]
fn calls_are_named_with_those_that_were_inlined() {
    let (blocked, info) = built(vec![
        place(&[0x10, 0x20, 0x50, 0x30], end::WHOLE, 0x40, 100),
        place(&[0x10, 0x20], end::CUT, 0, 10),
        place(&[0x20], end::BROKEN, 0x60, 1),
    ]);
    let calls = ["main.inner /src/main.go:2", "main.outer /src/main.go:3"];
    assert_eq!(blocked[0].stack, [calls[0], calls[1], "0x50"]);
    assert_eq!(
        blocked[0].created_at.as_ref().map(Untrusted::raw),
        Some("main.start /src/main.go:5")
    );
    assert_eq!(blocked[0].incomplete, None);
    assert_eq!(blocked[1].stack, calls);
    assert_eq!(blocked[1].incomplete, Some(Incomplete::Cut));
    assert_eq!(blocked[1].created_at, None);
    assert_eq!(blocked[2].incomplete, Some(Incomplete::Broken));
    assert_eq!(blocked[2].created_at.as_ref().map(Untrusted::raw), Some("0x60"));
    assert_eq!((info.walked, info.different), (9, 3));
    assert_eq!((info.lost_full, info.lost_unreadable), (4, 5));
    assert_eq!((info.other_places, info.other), (0, Waits::default()));
}

#[test]
fn what_is_not_shown_is_counted() {
    let many = PLACES as u64 + 7;
    let places = (0..many)
        .map(|n| place(&[0x20], end::WHOLE, n, 1_000 - n))
        .collect();
    let (blocked, info) = built(places);
    assert_eq!(blocked.len(), PLACES);
    let hidden = PLACES as u64..many;
    assert_eq!(info.other_places, 7);
    assert_eq!(info.other.total_ns, hidden.map(|n| 1_000 - n).sum::<u64>());
    assert_eq!((info.other.count, info.other.ongoing), (14, 7));
}
