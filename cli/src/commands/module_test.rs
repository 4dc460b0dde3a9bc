//! `headwater module test`: a module on a file of records, without a broker.

use crate::commands::module::read_module;
use crate::commands::module_build::build_component;
use crate::error::CliError;
use crate::limits::TEST_FILE_BYTES_MAX;
use crate::output::Format;
use crate::text::parse_setting;
use clap::Args;
use headwater_broker::local::{LocalDeployment, LocalOutput, LocalRecord, LocalTask};
use headwater_wasm_host::limits::GUEST_THREAD_STACK_BYTES;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Words of `headwater module test`.
#[derive(Debug, Args)]
#[command(after_help = "\
A line of RECORDS is a JSON object: \"value\" and \"key\" (text, or any JSON), and
if need be \"timestamp\" (ms) and \"input\" (a name given with --input). A line
that is no object is a value. Outputs are printed as JSON lines, then the stores.

Examples:
  headwater module test records.jsonl --output counts --store counts
  headwater module test records.jsonl --module filter.wasm -o out --setting contains=a")]
pub(crate) struct TestArguments {
    /// File of records, one a line.
    records: PathBuf,
    /// Component to run; without it the crate at --path is built.
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Directory of the crate.
    #[arg(long, value_name = "DIR", default_value = ".", conflicts_with = "module")]
    path: PathBuf,
    /// Input; may be repeated [default: one, `input`].
    #[arg(long, short, value_name = "NAME")]
    input: Vec<String>,
    /// Output; may be repeated.
    #[arg(long, short, value_name = "NAME")]
    output: Vec<String>,
    /// State store; may be repeated.
    #[arg(long, short, value_name = "NAME")]
    store: Vec<String>,
    /// Setting for the module; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    setting: Vec<(String, String)>,
    /// Records handed to the module in one call.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    records_per_step_max: u32,
}

/// Runs it on a thread with a guest's stack.
pub(crate) fn test(arguments: TestArguments, format: Format) -> Result<(), CliError> {
    let thread = std::thread::Builder::new().stack_size(GUEST_THREAD_STACK_BYTES).spawn(move || run(arguments, format));
    let thread = thread.map_err(CliError::io("start a thread for the module"))?;
    thread.join().unwrap_or_else(|_| Err(CliError::Build("the test panicked: headwater has a bug".to_owned())))
}

fn run(arguments: TestArguments, format: Format) -> Result<(), CliError> {
    let inputs = if arguments.input.is_empty() { vec!["input".to_owned()] } else { arguments.input };
    let records = read_records(&arguments.records, &inputs)?;
    let component = match &arguments.module {
        Some(file) => read_module(file)?,
        None => build_component(&arguments.path)?,
    };
    let cache = tempfile::tempdir().map_err(CliError::io("make a scratch directory"))?;
    let stores = arguments.store.clone();
    let outputs = arguments.output.clone();
    let deployment =
        LocalDeployment { inputs, outputs: arguments.output, stores: arguments.store, settings: arguments.setting };
    let failed = |error: headwater_broker::local::LocalError| CliError::Input(error.to_string());
    let mut task = LocalTask::start(&component, cache.path(), deployment).map_err(failed)?;
    let mut done = 0;
    while done < records.len() {
        let rest = records.get(done..).unwrap_or_default();
        let input = rest.first().map_or(0, |record| record.input);
        let same = rest.iter().take_while(|record| record.input == input).count();
        let step = rest.get(..same.min(arguments.records_per_step_max as usize)).unwrap_or_default();
        let emitted = task.run(step);
        task.take_log().iter().for_each(|line| eprintln!("log: {line}"));
        let emitted = emitted.map_err(|error| {
            let (first, last) = (done + 1, done + step.len());
            CliError::Input(format!("lines {first} to {last} of {}: {error}", arguments.records.display()))
        })?;
        for record in &emitted {
            format.print_line(&object(record, &outputs), || object(record, &outputs).to_string())?;
        }
        done += step.len();
    }
    for (number, name) in (0_u32..).zip(&stores) {
        for (key, value) in task.state(number).map_err(failed)? {
            let mut entry = Map::new();
            entry.insert("store".to_owned(), json!(name));
            insert(&mut entry, "key", Some(&key));
            insert(&mut entry, "value", Some(&value));
            let entry = Value::from(entry);
            format.print_line(&entry, || entry.to_string())?;
        }
    }
    Ok(())
}

fn object(record: &LocalOutput, outputs: &[String]) -> Value {
    let mut object = Map::new();
    object.insert("output".to_owned(), json!(outputs.get(record.output as usize)));
    insert(&mut object, "key", record.key.as_deref());
    insert(&mut object, "value", record.value.as_deref());
    object.insert("timestamp".to_owned(), record.timestamp.into());
    if let Some(partition) = record.partition {
        object.insert("partition".to_owned(), partition.into());
    }
    Value::from(object)
}

/// Text where it is text, else hexadecimal under a name that says so.
fn insert(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(std::str::from_utf8) {
        None => object.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_owned(), text.into()),
        Some(Err(_)) => {
            let hex: String = bytes.unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect();
            object.insert(format!("{name}Hex"), hex.into())
        }
    };
}

fn read_records(path: &Path, inputs: &[String]) -> Result<Vec<LocalRecord>, CliError> {
    let reading = || CliError::io(format!("read {}", path.display()));
    let mut text = String::new();
    let file = File::open(path).map_err(reading())?;
    file.take(TEST_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(reading())?;
    if text.len() as u64 > TEST_FILE_BYTES_MAX {
        return Err(CliError::Input(format!("{} has more than {TEST_FILE_BYTES_MAX} bytes", path.display())));
    }
    let now = LocalTask::now_ms();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(number, line)| {
            record(line, inputs, now)
                .map_err(|error| CliError::Input(format!("{}:{}: {error}", path.display(), number + 1)))
        })
        .collect()
}

fn record(line: &str, inputs: &[String], now: i64) -> Result<LocalRecord, String> {
    let plain = || LocalRecord { timestamp: now, value: Some(line.as_bytes().to_vec()), ..LocalRecord::default() };
    let Ok(Value::Object(object)) = serde_json::from_str(line) else { return Ok(plain()) };
    let known = ["key", "value", "timestamp", "input"];
    if let Some(name) = object.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("a record has no field {name:?}; it may have {}", known.join(", ")));
    }
    let bytes = |name: &str| match object.get(name) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone().into_bytes()),
        Some(other) => Some(other.to_string().into_bytes()),
    };
    let timestamp = match object.get("timestamp") {
        None => now,
        Some(time) => time.as_i64().ok_or("the timestamp is no number of ms")?,
    };
    let input = match object.get("input").map(|name| name.as_str().unwrap_or_default()) {
        None => 0,
        Some(name) => {
            let place = inputs.iter().position(|input| input == name);
            let place = place.ok_or_else(|| format!("there is no input {name:?}: add --input {name}"))?;
            u32::try_from(place).unwrap_or(u32::MAX)
        }
    };
    Ok(LocalRecord { input, timestamp, key: bytes("key"), value: bytes("value") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_record_or_a_value() {
        let inputs = ["a".to_owned(), "b".to_owned()];
        let read = |line: &str| record(line, &inputs, 7).unwrap();
        assert_eq!(read("plain").value, Some(b"plain".to_vec()));
        assert_eq!((read("3").value, read("3").timestamp), (Some(b"3".to_vec()), 7));
        let whole = read(r#"{"key": "k", "value": {"n": 1}, "timestamp": 9, "input": "b"}"#);
        let (key, value) = (Some(b"k".to_vec()), Some(br#"{"n":1}"#.to_vec()));
        assert_eq!(whole, LocalRecord { input: 1, timestamp: 9, key, value });
        assert!(record(r#"{"vaule": 1}"#, &inputs, 7).unwrap_err().contains("\"vaule\""));
        assert!(record(r#"{"input": "c"}"#, &inputs, 7).unwrap_err().contains("--input c"));
    }
}
