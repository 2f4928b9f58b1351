//! The text of an envelope's file: one line of JSON, then one line with the checksum of the first. Pure.
//!
//! ```text
//! {"schema":"envelope@1","id":"01JD…", … }
//! sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//! ```
//!
//! The checksum covers the JSON line with its newline, so that `head -n 1 FILE | sha256sum` computes it.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::model::envelope::{ENVELOPE_SCHEMA, Envelope};
use crate::model::time::Timestamp;

const CHECKSUM_PREFIX: &str = "sha256:";

/// How many bytes the checksum line has, with its newline.
const CHECKSUM_LINE_BYTES: usize = CHECKSUM_PREFIX.len() + 64 + 1;

/// How deep arrays and objects of a body may lie in each other: the reader of JSON takes one level more, the envelope.
const BODY_DEPTH_MAX: usize = 126;

/// Why the content of a file is not an envelope.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// Not two whole lines: cut off, or never written to its end.
    #[error("the file is not one line of JSON and one line `sha256:...`")]
    Torn,
    /// The first line is not what was written.
    #[error("the checksum does not fit the content")]
    Checksum,
    /// The first line is no envelope.
    #[error("the content is not an envelope")]
    Json(#[source] serde_json::Error),
    /// The envelope has a version that this program does not know.
    #[error("the envelope's schema is `{0}`, not `{ENVELOPE_SCHEMA}`")]
    Schema(String),
}

/// Writes an envelope as the bytes of its file.
///
/// # Errors
/// Fails if the body cannot be written as JSON.
pub fn encode(envelope: &Envelope) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec(envelope)?;
    bytes.push(b'\n');
    let checksum = hex_digest(&bytes);
    bytes.extend_from_slice(CHECKSUM_PREFIX.as_bytes());
    bytes.extend_from_slice(checksum.as_bytes());
    bytes.push(b'\n');
    Ok(bytes)
}

/// Says why an envelope could be written and not be read back, without doing either.
#[must_use]
pub fn unreadable(envelope: &Envelope) -> Option<String> {
    if !is_flat(&envelope.body, BODY_DEPTH_MAX) {
        return Some(format!("its body is nested more than {BODY_DEPTH_MAX} levels deep"));
    }
    let times = [("sent_at", Some(envelope.sent_at)), ("expires_at", envelope.expires_at)];
    let odd = |time: &Timestamp| time.to_string().parse::<Timestamp>().is_err();
    let (name, _) = times.into_iter().find(|(_, time)| time.as_ref().is_some_and(odd))?;
    Some(format!("its {name} is no time that can be written"))
}

/// Says whether arrays and objects lie in each other at most so deep.
fn is_flat(value: &Value, depth_max: usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        Value::Array(values) => depth_max > 0 && values.iter().all(|value| is_flat(value, depth_max - 1)),
        Value::Object(values) => depth_max > 0 && values.values().all(|value| is_flat(value, depth_max - 1)),
    }
}

/// Reads an envelope from the bytes of its file, and believes it only if the checksum fits.
///
/// # Errors
/// Says what is wrong with the content.
pub fn decode(bytes: &[u8]) -> Result<Envelope, FileFault> {
    let at = bytes.len().checked_sub(CHECKSUM_LINE_BYTES).ok_or(FileFault::Torn)?;
    let (json, checksum) = bytes.split_at(at);
    let written = checksum
        .strip_prefix(CHECKSUM_PREFIX.as_bytes())
        .and_then(|rest| rest.strip_suffix(b"\n"))
        .ok_or(FileFault::Torn)?;
    if !json.ends_with(b"\n") {
        return Err(FileFault::Torn);
    }
    if hex_digest(json).as_bytes() != written {
        return Err(FileFault::Checksum);
    }
    let envelope: Envelope = serde_json::from_slice(json).map_err(FileFault::Json)?;
    if envelope.schema == ENVELOPE_SCHEMA { Ok(envelope) } else { Err(FileFault::Schema(envelope.schema)) }
}

/// Returns the SHA-256 of some bytes in lower-case hexadecimal digits.
pub(super) fn hex_digest(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::testing::envelope;
    use super::*;

    #[test]
    fn an_envelope_reads_back_as_what_was_written() {
        let mut written = envelope("kaede", 1);
        written.body = json!({"text": "挨拶\n改行", "deep": [1, [2, {"x": null}]]});
        assert_eq!(decode(&encode(&written).unwrap()).unwrap(), written);
    }

    #[test]
    fn the_checksum_is_the_one_of_sha256sum() {
        assert_eq!(hex_digest(b"abc\n"), "edeaaff3f1774ad2888673770c6d64097e391bc362d7d6fb34982ddf0efd18cb");
    }

    #[test]
    fn a_file_that_ends_early_is_never_believed() {
        let bytes = encode(&envelope("kaede", 1)).unwrap();
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length} of {} bytes were believed", bytes.len());
        }
    }

    #[test]
    fn another_version_is_not_mistaken_for_ours() {
        let mut newer = envelope("kaede", 1);
        "envelope@2".clone_into(&mut newer.schema);
        assert!(matches!(decode(&encode(&newer).unwrap()), Err(FileFault::Schema(_))));
    }

    #[test]
    fn what_is_called_readable_is_read_back_and_nothing_else_is() {
        let nested = |depth: usize| {
            let body = (0..depth)
                .fold(json!("x"), |body, level| if level % 2 == 0 { json!([body]) } else { json!({"x": body}) });
            Envelope { body, ..envelope("kaede", 1) }
        };
        let sent_at = |millis| Envelope { sent_at: Timestamp::from_millis(millis), ..envelope("kaede", 1) };
        let deep = [0, 1, BODY_DEPTH_MAX - 1, BODY_DEPTH_MAX, BODY_DEPTH_MAX + 1, BODY_DEPTH_MAX + 2].map(nested);
        let odd = [0, -1, 253_402_300_799_999, 253_402_300_800_000, i64::MAX, i64::MIN].map(sent_at);
        let expiring = Envelope { expires_at: Some(Timestamp::from_millis(i64::MAX)), ..envelope("kaede", 1) };
        let mut readable = 0;
        for written in deep.into_iter().chain(odd).chain([expiring]) {
            let is_read_back = decode(&encode(&written).unwrap()).is_ok_and(|read| read == written);
            assert_eq!(unreadable(&written).is_none(), is_read_back, "{written:?}");
            readable += usize::from(is_read_back);
        }
        assert!((5..12).contains(&readable), "{readable} of 13");
    }

    proptest! {
        #[test]
        fn one_changed_byte_is_always_noticed(at in any::<prop::sample::Index>(), by in 1..=255u8) {
            let mut bytes = encode(&envelope("kaede", 1)).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn no_bytes_make_the_reader_stumble(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
