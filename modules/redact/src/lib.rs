//! Masks fields of JSON values and passes the records on. Deploy with one output and the settings
//! - `fields=/email,/card/number`: JSON pointers (RFC 6901), separated by commas; a field that is not there is no error
//! - `mask=***`: what is put in their place, that by default
//!
//! A value that is no JSON is a failure that names its record, so that nothing leaves unmasked; a null value passes.

use headwater_guest_sdk::{Context, Deployment, Failure, OutRecord, Record, RecordProcessor, export_processor};
use serde_json::Value;

/// The processor.
pub struct Redact {
    pointers: Vec<String>,
    mask: String,
}

export_processor!(Redact);

impl RecordProcessor for Redact {
    fn init(deployment: &Deployment) -> Result<Self, String> {
        deployment.needs(1, 0)?;
        let pointers: Vec<String> = deployment.required("fields")?.split(',').map(str::to_owned).collect();
        if let Some(pointer) = pointers.iter().find(|pointer| !pointer.starts_with('/')) {
            return Err(format!("setting \"fields\": {pointer:?} is no JSON pointer, it begins with /: /{pointer}"));
        }
        Ok(Self { pointers, mask: deployment.setting("mask").unwrap_or("***").to_owned() })
    }

    fn process(&mut self, record: &Record<'_>, context: &mut Context) -> Result<(), Failure> {
        let Some(value) = record.value else { return Ok(context.emit(0, OutRecord::from(record))?) };
        let mut value: Value = serde_json::from_slice(value).map_err(|error| record.failure(error))?;
        for pointer in &self.pointers {
            if let Some(field) = value.pointer_mut(pointer) {
                *field = Value::String(self.mask.clone());
            }
        }
        let masked = value.to_string();
        Ok(context.emit(0, OutRecord::from(record).value(&masked))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_guest_sdk::testing::{TestRecord, TestRunner};

    fn runner(fields: &str) -> Result<TestRunner<Redact>, String> {
        TestRunner::new(Deployment::for_test().output("out").set("fields", fields))
    }

    #[test]
    fn named_fields_are_masked_wherever_they_are() {
        let mut runner = runner("/email,/card/number").unwrap();
        runner.run([r#"{"email":"a@b","card":{"number":1,"to":2}}"#, r#"{"id":7}"#, "[1]"]).unwrap();
        runner.run([TestRecord::default()]).unwrap();
        let values: Vec<_> = runner.take_output(0).iter().map(|record| record.value_text().into_owned()).collect();
        assert_eq!(values, [r#"{"card":{"number":"***","to":2},"email":"***"}"#, r#"{"id":7}"#, "[1]", ""]);
    }

    #[test]
    fn what_is_no_json_does_not_pass() {
        let mut runner = runner("/a").unwrap();
        assert_eq!(runner.run([r#"{"a":1}"#, "a=1"]).unwrap_err().index, Some(1));
        let refusal = self::runner("email").err().unwrap();
        assert!(refusal.contains("/email"), "{refusal}");
    }
}
