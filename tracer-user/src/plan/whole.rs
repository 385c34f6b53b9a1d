//! Functions that always make the same change to the status of their first argument, a goroutine: their entry may be
//! probed in place of the call of casgstatus inside, which is cheaper. To emulate a `call`, the kernel writes the
//! return address to the target's stack; to emulate the branch of the stack check, it writes nothing.

use super::{Site, SiteKind, entry};
use crate::binary::{Code, Function};
use tracer_ebpf::full::status;

/// Name, old status, new status. All three run on the stack of g0. Source: proc.go, Go 1.19 to 1.27.
const WHOLE: [(&str, u8, u8); 3] = [
    ("runtime.park_m", status::RUNNING, status::WAITING),
    ("runtime.ready", status::WAITING, status::RUNNABLE),
    ("runtime.execute", status::RUNNABLE, status::RUNNING),
];

/// Whether `site` is the entry of one of these functions, inlined copies of which are probed separately.
pub(super) fn is_whole(site: &Site) -> bool {
    site.kind == SiteKind::StatusEntry && WHOLE.iter().any(|(name, ..)| site.function == *name)
}

/// The site at the entry of `function` that can replace `call`, the only call of casgstatus with these statuses in it.
pub(super) fn site(code: &dyn Code, function: &Function, change: (u64, u64), call: &Site) -> Option<Site> {
    let (_, old, new) = WHOLE
        .iter()
        .find(|(name, old, new)| function.name == *name && (u64::from(*old), u64::from(*new)) == change)?;
    let mut site = entry::site_on_g0(code, function, 1, SiteKind::StatusEntry).ok()?;
    site.statuses_in = (*old, *new);
    site.origin = call.origin;
    Some(site)
}
