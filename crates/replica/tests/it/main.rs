//! The pipeline over the real engine and the real journal on a simulated disk: what may be shown
//! when, what survives, what an atomic commit leaves behind at every possible crash.

mod durability;
mod rig;
