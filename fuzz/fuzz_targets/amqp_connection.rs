//! libFuzzer's way into [`fuzz::amqp_connection`]. A file of its own because each target has a main
//! function of its own; what is checked, and why, stands there.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::amqp_connection::run(data));
