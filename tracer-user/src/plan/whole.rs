//! Functions that always change the status of the goroutine that is their first argument in the same way: their entry
//! may be probed in place of the call of casgstatus within, which is cheaper. An emulated `call` writes the
//! address to return to into the target's stack; the branch of the stack check does nothing.

use super::{Site, SiteKind, entry};
use crate::binary::{Code, Function};
use tracer_ebpf::full::status;

/// Name, old status, new status. All three run on the stack of g0. Source: proc.go, Go 1.19 to 1.27.
const WHOLE: [(&str, u8, u8); 3] = [
    ("runtime.park_m", status::RUNNING, status::WAITING),
    ("runtime.ready", status::WAITING, status::RUNNABLE),
    ("runtime.execute", status::RUNNABLE, status::RUNNING),
];

/// Whether `site` stands for a call of its whole function, copies of which are probed where they are inlined.
pub(super) fn is_whole(site: &Site) -> bool {
    site.kind == SiteKind::StatusEntry && WHOLE.iter().any(|(name, ..)| site.function == *name)
}

/// The site at the entry of `function` that is as good as that of its call of casgstatus with these statuses: `call`,
/// the only such call in it.
pub(super) fn site(code: &dyn Code, function: &Function, change: (u64, u64), call: &Site) -> Option<Site> {
    let (_, old, new) = WHOLE
        .iter()
        .find(|(name, old, new)| function.name == *name && (u64::from(*old), u64::from(*new)) == change)?;
    let mut site = entry::site_on_g0(code, function, 1, SiteKind::StatusEntry).ok()?;
    site.statuses_in = (*old, *new);
    site.origin = call.origin;
    Some(site)
}
