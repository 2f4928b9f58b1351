//! File names: no text may make a parser stumble, and whatever one accepts must be written as exactly that text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use miyabi_fuzz::io::spool::holder::Holder;
use miyabi_fuzz::io::spool::name::{BadName, EndedName, LaterName, LeasedName, Stem};
use miyabi_fuzz::io::spool::receipt::Receipt;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = [
        Stem::parse(text).map(|name| name.to_string()),
        LaterName::parse(text).map(|name| name.to_string()),
        LeasedName::parse(text).map(|name| name.to_string()),
        EndedName::parse(text).map(|name| name.to_string()),
        BadName::parse(text).map(|name| name.to_string()),
        text.parse::<Holder>().ok().map(|name| name.to_string()),
        text.parse::<Receipt>().ok().map(|name| name.to_string()),
    ];
    for written in read.iter().flatten() {
        assert_eq!(written, text, "one state has two names");
        // A name is one part of a path; only a receipt has a mailbox before it.
        assert!(!written.contains('\0') && !written.contains("..") && written.matches('/').count() <= 1);
    }
    // A name says in which folder it may lie: no text is the name of two states whose names differ in shape.
    if let Some(stem) = Stem::parse(text) {
        assert!(LaterName::parse(text).is_none() && LeasedName::parse(text).is_none() && BadName::parse(text).is_none());
        assert!(stem.next().attempt >= stem.attempt);
    }
});
