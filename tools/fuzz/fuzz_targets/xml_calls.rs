//! The parser of calls in XML under libFuzzer; see `lapce_ai_tools::hostile`.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    lapce_ai_tools::hostile::parse(script);
});
