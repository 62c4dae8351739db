#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| fuzzed::bodies::hold("others", octets));
