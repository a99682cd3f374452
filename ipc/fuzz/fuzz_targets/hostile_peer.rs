//! The hostile peer under libFuzzer; see `lapce_ai_ipc::hostile`.
#![no_main]

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    if let Some((&side, script)) = script.split_first() {
        lapce_ai_ipc::hostile::play(script, side & 1 == 1);
    }
});
