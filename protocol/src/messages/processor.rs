//! Processors: modules at work.

use super::request;
use crate::ids::ModuleDigest;
use serde::{Deserialize, Serialize};

/// Starts a processor. The same name again swaps module and settings between two steps and keeps the state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeployProcessorRequest {
    /// Name, by the rules of topic names, short enough for `<name>-changelog`.
    pub name: String,
    /// Module: `name`, `name@version` or a digest.
    pub module: String,
    /// Topics to read; the first one is the anchor: task *i* reads its partition *i*.
    pub inputs: Vec<String>,
    /// Topics to write; output number *n* of the guest is the *n*-th.
    pub outputs: Vec<String>,
    /// State stores; store number *n* of the guest is the *n*-th.
    pub stores: Vec<String>,
    /// (name, value) pairs for the guest's `init`.
    pub settings: Vec<(String, String)>,
    /// Where to begin on the first deployment.
    pub from: StartFrom,
    /// Limits that differ from the defaults.
    pub limits: ProcessorLimits,
    /// What becomes of a record that can't be processed.
    pub errors: ErrorPolicy,
    /// Run it beside what is deployed, compare and write nothing. Inputs, outputs and stores are those of what is
    /// deployed, and are not looked at here.
    pub shadow: bool,
}

/// What becomes of a record that can't be processed (STR-12): it is tried again, then one of [`OnError`] happens.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ErrorPolicy {
    /// How often the record alone is tried again, each time on a new instance.
    pub retries: u32,
    /// What happens when it failed once more.
    pub then: OnError,
}

/// The end of an [`ErrorPolicy`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum OnError {
    /// The task stops in front of the record.
    Fail,
    /// The record is left out; the commit says so.
    Skip,
    /// The record is left out and written to a topic, with the cause in its headers, in the same commit.
    DeadLetter {
        /// The topic.
        topic: String,
    },
}

impl Default for ErrorPolicy {
    fn default() -> Self {
        Self { retries: 1, then: OnError::Fail }
    }
}

/// Where a new processor begins in its inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum StartFrom {
    /// At the log start.
    Earliest,
    /// At the high watermark of the moment.
    Latest,
}

/// Limits of one task. Every one is on by default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProcessorLimits {
    /// Linear memory of the instance, in bytes.
    pub memory_bytes_max: u64,
    /// CPU time per record, in milliseconds; a call may take this times its records.
    pub cpu_ms_per_record_max: u32,
    /// Output bytes of one step.
    pub output_bytes_per_step_max: u64,
    /// Bytes of keys and values in the task's stores.
    pub state_bytes_max: u64,
    /// Log lines per second; further ones are dropped and counted.
    pub log_lines_per_second_max: u32,
    /// Records handed to the guest in one call.
    pub records_per_step_max: u32,
}

impl Default for ProcessorLimits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 64 << 20,
            cpu_ms_per_record_max: 100,
            output_bytes_per_step_max: 8 << 20,
            state_bytes_max: 1 << 30,
            log_lines_per_second_max: 100,
            records_per_step_max: 1000,
        }
    }
}

/// What was deployed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeployProcessorResponse {
    /// Counts deployments of this name, from 1.
    pub revision: u32,
    /// The module that runs.
    pub digest: ModuleDigest,
    /// Number of tasks: partitions of the first input.
    pub tasks: u32,
}
request!(DeployProcessorRequest, DeployProcessor, 1, DeployProcessorResponse);

/// Asks for all processors.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListProcessorsRequest {}

/// All processors, by name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ListProcessorsResponse {
    /// The processors.
    pub processors: Vec<ProcessorSummary>,
}
request!(ListProcessorsRequest, ListProcessors, 0, ListProcessorsResponse);

/// A processor in a line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProcessorSummary {
    /// Name.
    pub name: String,
    /// Module as `name@version`.
    pub module: String,
    /// Counts deployments.
    pub revision: u32,
    /// Its worst task's state.
    pub state: TaskState,
    /// Number of tasks.
    pub tasks: u32,
    /// Committed input records that no task has processed yet, over all tasks.
    pub lag: u64,
}

/// What a task does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum TaskState {
    /// Processes.
    Running,
    /// Reads its changelog or starts its instance.
    Starting,
    /// An operator paused the processor.
    Paused,
    /// An error stopped it; see its last error. `processor resume` tries again.
    Failed,
}

/// Asks for one processor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DescribeProcessorRequest {
    /// Name.
    pub name: String,
}
request!(DescribeProcessorRequest, DescribeProcessor, 1, ProcessorDescription);

/// A processor, task by task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProcessorDescription {
    /// Name.
    pub name: String,
    /// Module as `name@version`.
    pub module: String,
    /// Digest of the module.
    pub digest: ModuleDigest,
    /// Counts deployments.
    pub revision: u32,
    /// Topics it reads.
    pub inputs: Vec<String>,
    /// Topics it writes.
    pub outputs: Vec<String>,
    /// Its stores.
    pub stores: Vec<String>,
    /// The guest's settings.
    pub settings: Vec<(String, String)>,
    /// Its changelog topic.
    pub changelog: String,
    /// Limits in force.
    pub limits: ProcessorLimits,
    /// What becomes of a record that can't be processed.
    pub errors: ErrorPolicy,
    /// The module that a rollback brings back, as `name@version`.
    pub previous: Option<String>,
    /// The module that runs beside it and writes nothing, as `name@version`.
    pub shadow: Option<String>,
    /// Its tasks, by number.
    pub tasks: Vec<TaskDescription>,
}

/// One task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TaskDescription {
    /// Number: partition of the changelog.
    pub task: u32,
    /// What it does.
    pub state: TaskState,
    /// For each input: next offset to read (all below it is in a commit) and the input's high watermark.
    pub positions: Vec<(i64, i64)>,
    /// Committed input records not yet processed.
    pub lag: u64,
    /// Steps committed.
    pub steps: u64,
    /// Input records processed since this broker started the task.
    pub records_in: u64,
    /// Records emitted since this broker started the task.
    pub records_out: u64,
    /// Bytes of keys and values in its stores.
    pub state_bytes: u64,
    /// Linear memory of its instance now, in bytes.
    pub memory_bytes: u64,
    /// CPU time its guest has used since this broker started the task, in microseconds.
    pub cpu_us: u64,
    /// Instances started after the first one (a trap ends an instance).
    pub restarts: u64,
    /// Records that the error policy left out since this broker started the task.
    pub skipped: u64,
    /// Records that it wrote to the dead letter topic since then.
    pub dead_lettered: u64,
    /// What the shadow did, if there is one.
    pub shadow: Option<ShadowReport>,
    /// How long the newest swap of the module kept the task from processing, in microseconds.
    pub swap_us: Option<u64>,
    /// The last error, if there was one since this broker started the task.
    pub last_error: Option<TaskError>,
}

/// A shadow beside what is deployed, since this broker began to compare them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ShadowReport {
    /// Input records that both have processed.
    pub records: u64,
    /// Steps that both have processed.
    pub steps: u64,
    /// Steps in which outputs, state changes or timers differed.
    pub differing_steps: u64,
    /// The first difference, in words.
    pub first_difference: Option<String>,
}

/// Why a task failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TaskError {
    /// Names the culprit; the guest's panic message where it had one.
    pub message: String,
    /// Topic, partition and offset of the record, where it is known.
    pub record: Option<(String, u32, i64)>,
    /// When, ms since the Unix epoch.
    pub at: i64,
}

/// Pauses or resumes all tasks of a processor. Resuming also starts failed tasks again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SetProcessorPausedRequest {
    /// Name.
    pub name: String,
    /// Pause, or resume.
    pub paused: bool,
}

/// Done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SetProcessorPausedResponse {
    /// Whether that changed anything.
    pub changed: bool,
}
request!(SetProcessorPausedRequest, SetProcessorPaused, 0, SetProcessorPausedResponse);

/// Ends a processor and deletes its changelog.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteProcessorRequest {
    /// Name.
    pub name: String,
}

/// Done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteProcessorResponse {
    /// The changelog topic that is gone too.
    pub changelog: String,
}
request!(DeleteProcessorRequest, DeleteProcessor, 0, DeleteProcessorResponse);

/// Brings back the deployment before the present one, as a new revision; the state stays.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RollbackProcessorRequest {
    /// Name.
    pub name: String,
}

/// What runs now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RollbackProcessorResponse {
    /// Counts deployments of this name, from 1.
    pub revision: u32,
    /// The module, as `name@version`.
    pub module: String,
}
request!(RollbackProcessorRequest, RollbackProcessor, 0, RollbackProcessorResponse);

/// Ends the shadow of a processor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndShadowRequest {
    /// Name of the processor.
    pub name: String,
}

/// Done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndShadowResponse {
    /// The module that ran, as `name@version`.
    pub module: String,
}
request!(EndShadowRequest, EndShadow, 0, EndShadowResponse);

/// Asks for log lines of a processor's guests.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProcessorLogsRequest {
    /// Name.
    pub name: String,
    /// Lines after this number (0: from the oldest kept).
    pub after: u64,
    /// Answer at most this many lines.
    pub lines_max: u32,
    /// Wait this long for a first line, in milliseconds.
    pub wait_ms: u32,
}

/// Lines, oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProcessorLogsResponse {
    /// The lines.
    pub lines: Vec<ProcessorLogLine>,
}
request!(ProcessorLogsRequest, ProcessorLogs, 0, ProcessorLogsResponse);

/// A line that a guest, or the host about a guest, wrote.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProcessorLogLine {
    /// Counts lines of this processor since this broker started, from 1.
    pub number: u64,
    /// When, ms since the Unix epoch.
    pub at: i64,
    /// Task that wrote it.
    pub task: u32,
    /// Severity.
    pub level: LogLevel,
    /// What it says; cut at the limit.
    pub message: String,
}

/// Severity of a log line, as in the guest contract.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum LogLevel {
    /// For a developer's eyes.
    Trace,
    /// For debugging.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is off.
    Warn,
    /// Something failed.
    Error,
}
