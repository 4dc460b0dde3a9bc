//! What a module was deployed with.

use crate::log::Level;
use std::fmt::Display;
use std::str::FromStr;

/// What `headwater processor deploy` said: handed to [`Processor::init`](crate::Processor::init).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deployment {
    /// Name of the processor.
    pub processor: String,
    /// Number of the task: the partition of its changelog and of its first input.
    pub task: u32,
    /// Input topics. A batch names its input by the position in this list.
    pub inputs: Vec<String>,
    /// Output topics, in the order in which [`Outputs::emit`](crate::Outputs::emit) counts them.
    pub outputs: Vec<String>,
    /// Stores, in the order in which [`Stores::at`](crate::Stores::at) counts them.
    pub stores: Vec<String>,
    /// Names and values, as configured.
    pub settings: Vec<(String, String)>,
    /// Lines below this level are dropped.
    pub log_level: Level,
}

impl Deployment {
    /// A deployment for a test: one input named `input`, no outputs, stores or settings, every log line kept.
    pub fn for_test() -> Self {
        Self {
            processor: "test".to_owned(),
            task: 0,
            inputs: vec!["input".to_owned()],
            outputs: Vec::new(),
            stores: Vec::new(),
            settings: Vec::new(),
            log_level: Level::Trace,
        }
    }

    /// The same with one more input.
    #[must_use]
    pub fn input(mut self, topic: &str) -> Self {
        self.inputs.push(topic.to_owned());
        self
    }

    /// The same with one more output.
    #[must_use]
    pub fn output(mut self, topic: &str) -> Self {
        self.outputs.push(topic.to_owned());
        self
    }

    /// The same with one more store.
    #[must_use]
    pub fn store(mut self, name: &str) -> Self {
        self.stores.push(name.to_owned());
        self
    }

    /// The same with one more setting.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Refuses a deployment that lacks outputs or stores which the module counts on.
    pub fn needs(&self, outputs: usize, stores: usize) -> Result<(), String> {
        for (flag, needed, given) in [("output", outputs, self.outputs.len()), ("store", stores, self.stores.len())] {
            if given < needed {
                return Err(format!("the module needs {needed} {flag}(s), deployed with {given}: add --{flag}"));
            }
        }
        Ok(())
    }

    /// The value of a setting.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a setting that the module can't do without.
    pub fn required(&self, name: &str) -> Result<&str, String> {
        self.setting(name).ok_or_else(|| format!("the module needs the setting {name:?}: add --setting {name}=VALUE"))
    }

    /// The value of a setting, parsed, or `default`.
    pub fn parsed<T: FromStr<Err: Display>>(&self, name: &str, default: T) -> Result<T, String> {
        match self.setting(name) {
            None => Ok(default),
            Some(value) => value.parse().map_err(|error| format!("setting {name:?} is {value:?}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let deployment = Deployment::for_test().output("out");
        assert_eq!(deployment.needs(1, 0), Ok(()));
        let refusal = deployment.needs(1, 2).unwrap_err();
        assert_eq!(refusal, "the module needs 2 store(s), deployed with 0: add --store");
        assert!(deployment.required("prefix").unwrap_err().contains("--setting prefix=VALUE"));
    }

    #[test]
    fn settings_parse_or_say_why_not() {
        let deployment = Deployment::for_test().set("size", "1").set("size", "12").set("bad", "x");
        assert_eq!(deployment.parsed("size", 0u32), Ok(12));
        assert_eq!(deployment.parsed("none", 7u32), Ok(7));
        assert_eq!(
            deployment.parsed("bad", 7u32).unwrap_err(),
            "setting \"bad\" is \"x\": invalid digit found in string"
        );
    }
}
