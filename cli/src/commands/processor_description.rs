//! A processor for people and for programs.

use crate::output::{pairs, table};
use crate::text::{bytes, duration, timestamp};
use headwater_protocol::messages::processor::{
    ErrorPolicy, OnError, ProcessorDescription, ProcessorLimits, ShadowReport, TaskDescription, TaskError, TaskState,
};
use serde_json::{Value, json};
use std::time::Duration;

/// A task's state in a word.
pub(crate) fn state_name(state: TaskState) -> &'static str {
    match state {
        TaskState::Running => "running",
        TaskState::Starting => "starting",
        TaskState::Paused => "paused",
        TaskState::Failed => "failed",
    }
}

/// Everything, for programs.
pub(crate) fn description(processor: &ProcessorDescription) -> Value {
    let settings: serde_json::Map<String, Value> =
        processor.settings.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let tasks: Vec<Value> = processor.tasks.iter().map(|task| task_object(task, &processor.inputs)).collect();
    json!({
        "name": processor.name,
        "module": processor.module,
        "digest": processor.digest.to_string(),
        "revision": processor.revision,
        "inputs": processor.inputs,
        "outputs": processor.outputs,
        "stores": processor.stores,
        "settings": settings,
        "changelog": processor.changelog,
        "limits": limits_object(&processor.limits),
        "errors": errors_object(&processor.errors),
        "previous_module": processor.previous,
        "shadow_module": processor.shadow,
        "tasks": tasks,
    })
}

fn limits_object(limits: &ProcessorLimits) -> Value {
    json!({
        "memory_bytes_max": limits.memory_bytes_max,
        "cpu_ms_per_record_max": limits.cpu_ms_per_record_max,
        "output_bytes_per_step_max": limits.output_bytes_per_step_max,
        "state_bytes_max": limits.state_bytes_max,
        "log_lines_per_second_max": limits.log_lines_per_second_max,
        "records_per_step_max": limits.records_per_step_max,
    })
}

fn errors_object(errors: &ErrorPolicy) -> Value {
    let (then, topic) = match &errors.then {
        OnError::Fail => ("fail", None),
        OnError::Skip => ("skip", None),
        OnError::DeadLetter { topic } => ("dead-letter", Some(topic)),
    };
    json!({"retries": errors.retries, "then": then, "dead_letter_topic": topic})
}

fn errors_text(errors: &ErrorPolicy) -> String {
    let retries = errors.retries;
    match &errors.then {
        OnError::Fail => format!("{retries} retries, then fail"),
        OnError::Skip => format!("{retries} retries, then skip the record"),
        OnError::DeadLetter { topic } => format!("{retries} retries, then a dead letter to {topic}"),
    }
}

fn task_object(task: &TaskDescription, inputs: &[String]) -> Value {
    let positions: Vec<Value> = task
        .positions
        .iter()
        .enumerate()
        .map(|(place, (next, end))| json!({"input": inputs.get(place), "next_offset": next, "high_watermark": end}))
        .collect();
    let error = task.last_error.as_ref().map(|error| {
        let record = error
            .record
            .as_ref()
            .map(|(topic, partition, offset)| json!({"topic": topic, "partition": partition, "offset": offset}));
        json!({"message": error.message, "record": record, "at": error.at})
    });
    json!({
        "task": task.task,
        "state": state_name(task.state),
        "positions": positions,
        "lag": task.lag,
        "steps": task.steps,
        "records_in": task.records_in,
        "records_out": task.records_out,
        "state_bytes": task.state_bytes,
        "memory_bytes": task.memory_bytes,
        "cpu_us": task.cpu_us,
        "restarts": task.restarts,
        "skipped": task.skipped,
        "dead_lettered": task.dead_lettered,
        "swap_us": task.swap_us,
        "shadow": task.shadow.as_ref().map(shadow_object),
        "last_error": error,
    })
}

/// What matters, for people.
pub(crate) fn text(processor: &ProcessorDescription) -> String {
    let settings: Vec<String> = processor.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let facts = pairs(&[
        ("processor", processor.name.clone()),
        ("module", processor.module.clone()),
        ("digest", processor.digest.to_string()),
        ("revision", processor.revision.to_string()),
        ("inputs", processor.inputs.join(", ")),
        ("outputs", processor.outputs.join(", ")),
        ("stores", processor.stores.join(", ")),
        ("settings", settings.join(", ")),
        ("changelog", processor.changelog.clone()),
        ("limits", limits_text(&processor.limits)),
        ("errors", errors_text(&processor.errors)),
        ("shadow", processor.shadow.clone().unwrap_or_default()),
        ("before", processor.previous.clone().unwrap_or_default()),
    ]);
    let tasks = table(
        &[
            "task",
            "state",
            "position",
            "lag",
            "steps",
            "in",
            "out",
            "state bytes",
            "memory",
            "cpu",
            "restarts",
            "skipped",
            "dead letters",
        ],
        &[0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
        processor.tasks.iter().map(task_row),
    );
    let shadows = processor.tasks.iter();
    let shadows = shadows.filter_map(|task| task.shadow.as_ref().map(|shadow| shadow_text(task.task, shadow)));
    let errors = processor.tasks.iter();
    let errors = errors.filter_map(|task| task.last_error.as_ref().map(|error| error_text(task.task, error)));
    let below: Vec<String> = shadows.chain(errors).collect();
    format!("{facts}\n\n{tasks}\n\n{}", below.join("\n"))
}

fn limits_text(limits: &ProcessorLimits) -> String {
    format!(
        "memory {}, CPU {} ms a record, output {} a step, state {}, {} log lines a second, {} records a step",
        bytes(limits.memory_bytes_max),
        limits.cpu_ms_per_record_max,
        bytes(limits.output_bytes_per_step_max),
        bytes(limits.state_bytes_max),
        limits.log_lines_per_second_max,
        limits.records_per_step_max,
    )
}

fn task_row(task: &TaskDescription) -> Vec<String> {
    let positions: Vec<String> = task.positions.iter().map(|(next, end)| format!("{next}/{end}")).collect();
    vec![
        task.task.to_string(),
        state_name(task.state).to_owned(),
        positions.join(" "),
        task.lag.to_string(),
        task.steps.to_string(),
        task.records_in.to_string(),
        task.records_out.to_string(),
        bytes(task.state_bytes),
        bytes(task.memory_bytes),
        duration(Duration::from_micros(task.cpu_us)),
        task.restarts.to_string(),
        task.skipped.to_string(),
        task.dead_lettered.to_string(),
    ]
}

fn shadow_object(shadow: &ShadowReport) -> Value {
    json!({
        "records": shadow.records,
        "steps": shadow.steps,
        "differing_steps": shadow.differing_steps,
        "first_difference": shadow.first_difference,
    })
}

fn shadow_text(task: u32, shadow: &ShadowReport) -> String {
    let ShadowReport { records, steps, differing_steps, first_difference } = shadow;
    let first = first_difference.as_ref().map(|first| format!("; the first: {first}")).unwrap_or_default();
    format!("shadow of task {task}: {differing_steps} of {steps} steps differ, {records} records{first}")
}

fn error_text(task: u32, error: &TaskError) -> String {
    let at = timestamp(error.at);
    let record = match &error.record {
        Some((topic, partition, offset)) => format!(" (record {topic}-{partition} at offset {offset})"),
        None => String::new(),
    };
    format!("last error of task {task}, {at}{record}: {}", error.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_protocol::ids::ModuleDigest;

    fn processor() -> ProcessorDescription {
        let task = TaskDescription {
            task: 1,
            state: TaskState::Failed,
            positions: vec![(5, 9)],
            lag: 4,
            steps: 3,
            records_in: 5,
            records_out: 10,
            state_bytes: 2048,
            memory_bytes: 64 << 20,
            cpu_us: 1_500_000,
            restarts: 2,
            skipped: 3,
            dead_lettered: 4,
            swap_us: None,
            shadow: Some(ShadowReport { records: 9, steps: 3, differing_steps: 1, first_difference: None }),
            last_error: Some(TaskError {
                message: "the guest panicked: \x1b[31mno".to_owned(),
                record: Some(("lines".to_owned(), 1, 5)),
                at: 1_763_884_800_123,
            }),
        };
        ProcessorDescription {
            name: "count".to_owned(),
            module: "word-count@1".to_owned(),
            digest: ModuleDigest([0xab; 32]),
            revision: 1,
            inputs: vec!["lines".to_owned()],
            outputs: vec!["counts".to_owned()],
            stores: vec!["counts".to_owned()],
            settings: vec![("k".to_owned(), "v".to_owned())],
            changelog: "count-changelog".to_owned(),
            limits: ProcessorLimits::default(),
            errors: ErrorPolicy { retries: 1, then: OnError::DeadLetter { topic: "bad".to_owned() } },
            shadow: Some("word-count@2".to_owned()),
            previous: Some("word-count@0".to_owned()),
            tasks: vec![task],
        }
    }

    #[test]
    fn people_see_position_lag_memory_cpu_and_the_record_that_failed() {
        let text = text(&processor());
        for part in [
            "failed",
            "5/9",
            "2.0 KiB",
            "64.0 MiB",
            "1.5 s",
            "lines-1 at offset 5",
            "the guest panicked",
            "k=v",
            "a dead letter to bad",
            "word-count@0",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn programs_get_everything_by_name() {
        let document = description(&processor());
        let task = &document["tasks"][0];
        assert_eq!(task["positions"], json!([{"input": "lines", "next_offset": 5, "high_watermark": 9}]));
        assert_eq!(task["last_error"]["record"]["offset"], 5);
        assert_eq!((&task["state"], &task["cpu_us"]), (&json!("failed"), &json!(1_500_000)));
        assert_eq!(document["settings"]["k"], "v");
        assert_eq!(document["limits"]["memory_bytes_max"], 64 << 20);
    }
}
