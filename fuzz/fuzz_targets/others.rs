#![no_main]

#[path = "../src/others.rs"]
mod others;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    // `tests/long fuzz` sets it once, and wants it noticed.
    let lie = std::env::var_os("SEALPOST_LIE").is_some();
    if let Err(what) = others::compare(octets, lie) {
        panic!("others: {what}");
    }
});
