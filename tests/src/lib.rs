//! What the end-to-end tests share: Go workloads, oracles, and running `gmpscope` against them.
