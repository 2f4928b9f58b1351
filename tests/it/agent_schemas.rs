//! The JSON schemas of what agents read and miyabi writes are committed, and say what the program does.

use std::fs;
use std::path::Path;

use miyabi::model::envelope::Envelope;
use miyabi::model::order::WorkOrder;
use miyabi::model::report::Report;
use schemars::{Schema, schema_for};

#[track_caller]
fn assert_committed(name: &str, schema: &Schema) {
    let text = serde_json::to_string_pretty(schema).expect("a schema is plain JSON") + "\n";
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(name);
    if fs::read_to_string(&committed).is_ok_and(|found| found == text) {
        return;
    }
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&fresh, text).expect("the target folder can be written");
    panic!("schemas/{name} is out of date; what it should be is in {}", fresh.display());
}

#[test]
fn the_schema_of_work_orders_is_committed() {
    assert_committed("work-order.schema.json", &schema_for!(WorkOrder));
}

#[test]
fn the_schema_of_envelopes_is_committed() {
    assert_committed("envelope.schema.json", &schema_for!(Envelope));
}

#[test]
fn the_schema_of_reports_is_committed() {
    assert_committed("report.schema.json", &schema_for!(Report));
}
