//! libFuzzer's way into [`fuzz::work_call`]. A file of its own because each target has a main
//! function of its own; what is checked, and why, stands there.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::work_call::run(data));
