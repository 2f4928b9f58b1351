//! The content of an envelope's file: no bytes may make the reader stumble, and what it believes must be what was written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use miyabi_fuzz::io::spool::file::{decode, encode};
use sha2::{Digest, Sha256};

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    // No fuzzer finds a checksum, so the line below is also offered with the one that fits.
    let mut whole = bytes.to_vec();
    whole.push(b'\n');
    let digest = Sha256::digest(&whole);
    whole.extend_from_slice(b"sha256:");
    whole.extend(digest.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()));
    whole.push(b'\n');
    read(&whole);
    for length in [whole.len() - 1, whole.len() - 73, whole.len() / 2] {
        assert!(decode(&whole[..length]).is_err() || length == bytes.len(), "a file that ends early was believed");
    }
});

fn read(bytes: &[u8]) {
    let Ok(envelope) = decode(bytes) else { return };
    let written = encode(&envelope).expect("what was read can be written");
    let again = decode(&written).expect("what was written can be read");
    // Numbers with a fraction may differ in their last digit, so it is the second writing that must agree.
    let rewritten = encode(&again).expect("what was read can be written");
    assert_eq!(decode(&rewritten).expect("what was written can be read").id, envelope.id);
    assert_eq!((&again.to, &again.from, again.attempts_max), (&envelope.to, &envelope.from, envelope.attempts_max));
    assert_eq!((again.priority, again.sent_at, again.kind), (envelope.priority, envelope.sent_at, envelope.kind));
}
