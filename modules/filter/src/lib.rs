//! Passes on the records whose value matches and drops the others; records without a value never match. Deploy with one
//! output and one of the settings
//! - `contains=TEXT`: the text is somewhere in the value
//! - `prefix=TEXT`: the value begins with it

use headwater_guest_sdk::{Context, Deployment, Failure, OutRecord, Record, RecordProcessor, export_processor};
use memchr::memmem::Finder;

/// The processor.
pub enum Filter {
    /// What must be somewhere in the value.
    Contains(Box<Finder<'static>>),
    /// What the value must begin with.
    Prefix(Vec<u8>),
}

export_processor!(Filter);

impl RecordProcessor for Filter {
    fn init(deployment: &Deployment) -> Result<Self, String> {
        deployment.needs(1, 0)?;
        match (deployment.setting("contains"), deployment.setting("prefix")) {
            (Some(text), None) => Ok(Self::Contains(Box::new(Finder::new(text).into_owned()))),
            (None, Some(text)) => Ok(Self::Prefix(text.into())),
            _ => Err("the filter needs one setting: add --setting contains=TEXT or --setting prefix=TEXT".to_owned()),
        }
    }

    fn process(&mut self, record: &Record<'_>, context: &mut Context) -> Result<(), Failure> {
        if record.value.is_some_and(|value| self.matches(value)) {
            context.emit(0, OutRecord::from(record))?;
        }
        Ok(())
    }
}

impl Filter {
    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Prefix(text) => value.starts_with(text),
            Self::Contains(text) => text.find(value).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_guest_sdk::testing::{TestRecord, TestRunner};

    fn passed(setting: &str, text: &str, values: &[&str]) -> Vec<String> {
        let deployment = Deployment::for_test().output("out").set(setting, text);
        let mut runner = TestRunner::<Filter>::new(deployment).unwrap();
        runner.run(values.iter().copied()).unwrap();
        runner.run([TestRecord::default()]).unwrap();
        runner.take_output(0).iter().map(|record| record.value_text().into_owned()).collect()
    }

    #[test]
    fn what_matches_passes() {
        assert_eq!(passed("contains", "rr", &["error", "ok", "", "rr", "r r"]), ["error", "rr"]);
        assert_eq!(passed("contains", "", &["a", ""]), ["a", ""]);
        assert_eq!(passed("prefix", "er", &["error", "other", "er", "e"]), ["error", "er"]);
    }

    #[test]
    fn exactly_one_setting_is_asked_for() {
        let deployment = || Deployment::for_test().output("out");
        for wrong in [deployment(), deployment().set("contains", "a").set("prefix", "b")] {
            let refusal = TestRunner::<Filter>::new(wrong).err().unwrap();
            assert!(refusal.contains("--setting contains=TEXT"), "{refusal}");
        }
    }
}
