//! `headwater processor`.

use crate::arguments::GlobalOptions;
use crate::commands::processor_description::{description, state_name, text};
use crate::context::connect;
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::limits::{LOG_LINES_MAX, LOG_WAIT_MS};
use crate::output::{Format, table};
use crate::text::{parse_bytes, parse_setting, timestamp};
use clap::{Args, Subcommand, ValueEnum};
use headwater_client::Admin;
use headwater_protocol::messages::processor::{
    DeployProcessorRequest, ErrorPolicy, LogLevel, OnError, ProcessorLimits, ProcessorLogLine, StartFrom,
};
use serde_json::{Value, json};
use std::time::Duration;

/// Words of `headwater processor`.
#[derive(Debug, Subcommand)]
pub(crate) enum ProcessorCommand {
    /// Start a processor, or swap the module and settings of one and keep its state.
    Deploy(Box<DeployArguments>),
    /// List processors.
    #[command(after_help = "\
Examples:
  headwater processor list
  headwater processor list --format json")]
    List,
    /// Show a processor task by task: state, position, lag, memory, CPU, last error.
    #[command(after_help = "\
Examples:
  headwater processor describe word-count")]
    Describe {
        /// Name of the processor.
        processor: String,
    },
    /// Stop processing between two steps; everything is kept.
    #[command(after_help = "\
Examples:
  headwater processor pause word-count")]
    Pause {
        /// Name of the processor.
        processor: String,
    },
    /// Go on after a pause; starts failed tasks again, too.
    #[command(after_help = "\
Examples:
  headwater processor resume word-count")]
    Resume {
        /// Name of the processor.
        processor: String,
    },
    /// Bring back what ran before the newest deployment; a second rollback undoes the first.
    #[command(after_help = "\
Module, outputs, settings, limits and error policy are those of the former
deployment; state and positions stay.

Examples:
  headwater processor rollback word-count")]
    Rollback {
        /// Name of the processor.
        processor: String,
    },
    /// End what runs beside a processor for comparison (`deploy --shadow`).
    #[command(after_help = "\
Examples:
  headwater processor end-shadow word-count")]
    EndShadow {
        /// Name of the processor.
        processor: String,
    },
    /// End a processor and delete its state and changelog; its outputs stay.
    #[command(after_help = "\
Examples:
  headwater processor delete word-count")]
    Delete {
        /// Name of the processor.
        processor: String,
    },
    /// Print what a processor's guests, or the host about them, logged.
    #[command(after_help = "\
The broker keeps the newest lines in memory.

Examples:
  headwater processor logs word-count
  headwater processor logs word-count --follow --level warn")]
    Logs(LogsArguments),
}

/// Words of `headwater processor deploy`.
#[derive(Debug, Args)]
#[command(after_help = "\
Task N reads partition N of the first input. The module knows outputs and stores
by their order.

Examples:
  headwater processor deploy word-count -m word-count -i lines -o counts -s counts
  headwater processor deploy loud -m shout@2 -i lines -o loud --setting suffix=!
  headwater processor deploy word-count -m word-count@2 --shadow
  headwater processor deploy p -m m -i in --on-error dead-letter --dead-letter-topic bad")]
pub(crate) struct DeployArguments {
    /// Name of the processor, by the rules of topic names.
    processor: String,
    /// Module: NAME (its newest version), NAME@VERSION or a digest.
    #[arg(long, short)]
    module: String,
    /// Topic to read; may be repeated.
    #[arg(long, short, value_name = "TOPIC", required_unless_present = "shadow")]
    input: Vec<String>,
    /// Topic to write; may be repeated.
    #[arg(long, short, value_name = "TOPIC")]
    output: Vec<String>,
    /// State store; may be repeated.
    #[arg(long, short, value_name = "NAME")]
    store: Vec<String>,
    /// Setting for the module; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    setting: Vec<(String, String)>,
    /// Where to begin when the processor is new.
    #[arg(long, value_enum, default_value_t = FromArgument::Earliest)]
    from: FromArgument,
    /// Memory of a task's instance [default: 64MiB].
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    memory_max: Option<u64>,
    /// CPU time per record in ms; a call may take this times its records [default: 100].
    #[arg(long, value_name = "MS")]
    cpu_ms_per_record_max: Option<u32>,
    /// Output of one step [default: 8MiB].
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    output_per_step_max: Option<u64>,
    /// Keys and values in a task's stores [default: 1GiB].
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    state_max: Option<u64>,
    /// Log lines per second; further ones are dropped and counted [default: 100].
    #[arg(long, value_name = "COUNT")]
    log_lines_per_second_max: Option<u32>,
    /// Records handed to the module in one call [default: 1000].
    #[arg(long, value_name = "COUNT")]
    records_per_step_max: Option<u32>,
    /// What becomes of a record that the module can't process.
    #[arg(long, value_enum, default_value_t = OnErrorArgument::Fail)]
    on_error: OnErrorArgument,
    /// Topic for such records, cause and position in their headers.
    #[arg(long, value_name = "TOPIC", required_if_eq("on_error", "dead-letter"))]
    dead_letter_topic: Option<String>,
    /// Run the module beside what is deployed on the same input and state, compare, and write nothing; `describe`
    /// shows the first difference.
    #[arg(long)]
    #[arg(conflicts_with_all = ["input", "output", "store", "from", "on_error", "dead_letter_topic", "retries"])]
    shadow: bool,
    /// How often the record alone is tried again before [default: 1].
    #[arg(long, value_name = "COUNT")]
    retries: Option<u32>,
}

/// `--on-error`
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum OnErrorArgument {
    /// The task stops in front of it until somebody acts.
    Fail,
    /// It is left out; the commit says so.
    Skip,
    /// It is left out and written to --dead-letter-topic, in the same commit.
    DeadLetter,
}

/// `--from`
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum FromArgument {
    /// With the first record that is still there.
    Earliest,
    /// With records that come from now on.
    Latest,
}

/// Words of `headwater processor logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// Name of the processor.
    processor: String,
    /// Go on printing until Ctrl-C.
    #[arg(long, short)]
    follow: bool,
    /// Only lines of at least this severity.
    #[arg(long, value_enum, default_value_t = LevelArgument::Trace)]
    level: LevelArgument,
}

/// `--level`
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum LevelArgument {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl From<LevelArgument> for LogLevel {
    fn from(level: LevelArgument) -> Self {
        match level {
            LevelArgument::Trace => Self::Trace,
            LevelArgument::Debug => Self::Debug,
            LevelArgument::Info => Self::Info,
            LevelArgument::Warn => Self::Warn,
            LevelArgument::Error => Self::Error,
        }
    }
}

pub(crate) async fn run(command: ProcessorCommand, global: &GlobalOptions) -> Result<(), CliError> {
    let client = connect(global).await?;
    let (admin, format) = (client.admin(), global.format);
    let outcome = match command {
        ProcessorCommand::Deploy(arguments) => deploy(&admin, *arguments, format).await,
        ProcessorCommand::List => list(&admin, format).await,
        ProcessorCommand::Describe { processor } => match admin.describe_processor(&processor).await {
            Ok(found) => format.print(&description(&found), || text(&found)),
            Err(error) => Err(error.into()),
        },
        ProcessorCommand::Pause { processor } => set_paused(&admin, &processor, true, format).await,
        ProcessorCommand::Resume { processor } => set_paused(&admin, &processor, false, format).await,
        ProcessorCommand::Rollback { processor } => rollback(&admin, &processor, format).await,
        ProcessorCommand::EndShadow { processor } => end_shadow(&admin, &processor, format).await,
        ProcessorCommand::Delete { processor } => delete(&admin, &processor, format).await,
        ProcessorCommand::Logs(arguments) => logs(&admin, &arguments, format).await,
    };
    client.close().await;
    outcome
}

async fn deploy(admin: &Admin, arguments: DeployArguments, format: Format) -> Result<(), CliError> {
    if arguments.dead_letter_topic.is_some() && arguments.on_error != OnErrorArgument::DeadLetter {
        return Err(CliError::Usage("--dead-letter-topic needs --on-error dead-letter".to_owned()));
    }
    let shadow = arguments.shadow;
    let request = request(arguments);
    let (name, module) = (request.name.clone(), request.module.clone());
    let deployed = admin.deploy_processor(request).await?;
    let document = json!({
        "name": name,
        "revision": deployed.revision,
        "digest": deployed.digest.to_string(),
        "tasks": deployed.tasks,
    });
    format.print(&document, || {
        let tasks = if deployed.tasks == 1 { "1 task".to_owned() } else { format!("{} tasks", deployed.tasks) };
        if shadow {
            return format!("{module} runs beside processor {name}, {tasks}, and writes nothing");
        }
        format!("processor {name} runs {module}, revision {}, {tasks}", deployed.revision)
    })
}

fn request(arguments: DeployArguments) -> DeployProcessorRequest {
    let defaults = ProcessorLimits::default();
    DeployProcessorRequest {
        name: arguments.processor,
        module: arguments.module,
        inputs: arguments.input,
        outputs: arguments.output,
        stores: arguments.store,
        settings: arguments.setting,
        from: match arguments.from {
            FromArgument::Earliest => StartFrom::Earliest,
            FromArgument::Latest => StartFrom::Latest,
        },
        limits: ProcessorLimits {
            memory_bytes_max: arguments.memory_max.unwrap_or(defaults.memory_bytes_max),
            cpu_ms_per_record_max: arguments.cpu_ms_per_record_max.unwrap_or(defaults.cpu_ms_per_record_max),
            output_bytes_per_step_max: arguments.output_per_step_max.unwrap_or(defaults.output_bytes_per_step_max),
            state_bytes_max: arguments.state_max.unwrap_or(defaults.state_bytes_max),
            log_lines_per_second_max: arguments.log_lines_per_second_max.unwrap_or(defaults.log_lines_per_second_max),
            records_per_step_max: arguments.records_per_step_max.unwrap_or(defaults.records_per_step_max),
        },
        errors: ErrorPolicy {
            retries: arguments.retries.unwrap_or(ErrorPolicy::default().retries),
            then: match (arguments.on_error, arguments.dead_letter_topic) {
                (OnErrorArgument::DeadLetter, Some(topic)) => OnError::DeadLetter { topic },
                (OnErrorArgument::Skip, _) => OnError::Skip,
                (OnErrorArgument::Fail | OnErrorArgument::DeadLetter, _) => OnError::Fail,
            },
        },
        shadow: arguments.shadow,
    }
}

async fn list(admin: &Admin, format: Format) -> Result<(), CliError> {
    let processors = admin.list_processors().await?;
    let documents: Vec<Value> = processors
        .iter()
        .map(|processor| {
            json!({
                "name": processor.name,
                "module": processor.module,
                "revision": processor.revision,
                "state": state_name(processor.state),
                "tasks": processor.tasks,
                "lag": processor.lag,
            })
        })
        .collect();
    format.print(&Value::from(documents), || {
        let rows = processors.iter().map(|processor| {
            vec![
                processor.name.clone(),
                state_name(processor.state).to_owned(),
                processor.lag.to_string(),
                processor.tasks.to_string(),
                processor.module.clone(),
                processor.revision.to_string(),
            ]
        });
        table(&["processor", "state", "lag", "tasks", "module", "revision"], &[2, 3, 5], rows)
    })
}

async fn set_paused(admin: &Admin, name: &str, paused: bool, format: Format) -> Result<(), CliError> {
    let changed = if paused { admin.pause_processor(name).await? } else { admin.resume_processor(name).await? };
    let document = json!({"name": name, "paused": paused, "changed": changed});
    format.print(&document, || {
        let is = if paused { "paused" } else { "running" };
        if changed { format!("processor {name} is {is} now") } else { format!("processor {name} was {is} already") }
    })
}

async fn rollback(admin: &Admin, name: &str, format: Format) -> Result<(), CliError> {
    let rolled = admin.rollback_processor(name).await?;
    let document = json!({"name": name, "revision": rolled.revision, "module": rolled.module});
    format
        .print(&document, || format!("processor {name} runs {} again, as revision {}", rolled.module, rolled.revision))
}

async fn end_shadow(admin: &Admin, name: &str, format: Format) -> Result<(), CliError> {
    let module = admin.end_shadow(name).await?;
    let document = json!({"name": name, "module": module});
    format.print(&document, || format!("{module} runs no longer beside processor {name}"))
}

async fn delete(admin: &Admin, name: &str, format: Format) -> Result<(), CliError> {
    let changelog = admin.delete_processor(name).await?;
    let document = json!({"name": name, "changelog": changelog});
    format.print(&document, || format!("processor {name} deleted, and its changelog {changelog}"))
}

async fn logs(admin: &Admin, arguments: &LogsArguments, format: Format) -> Result<(), CliError> {
    let mut interrupt = Interrupt::listen()?;
    let wait = if arguments.follow { Duration::from_millis(LOG_WAIT_MS) } else { Duration::ZERO };
    let mut after = 0;
    loop {
        let asking = admin.processor_logs(&arguments.processor, after, LOG_LINES_MAX, wait);
        let lines = tokio::select! {
            lines = asking => lines?,
            () = interrupt.wait() => return Ok(()),
        };
        if lines.is_empty() && !arguments.follow {
            return Ok(());
        }
        for line in &lines {
            after = after.max(line.number);
            if line.level >= LogLevel::from(arguments.level) {
                format.print_line(&log_object(line), || log_text(line))?;
            }
        }
    }
}

fn log_object(line: &ProcessorLogLine) -> Value {
    json!({
        "number": line.number,
        "at": line.at,
        "task": line.task,
        "level": level_name(line.level),
        "message": line.message,
    })
}

fn log_text(line: &ProcessorLogLine) -> String {
    format!("{} {:5} task {}: {}", timestamp(line.at), level_name(line.level), line.task, line.message)
}

fn level_name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;

    fn deployed(words: &[&str]) -> DeployProcessorRequest {
        let line = [&["headwater", "processor", "deploy", "p", "--module", "m@2"], words].concat();
        match Arguments::try_parse_from(line).unwrap().command {
            Command::Processor(ProcessorCommand::Deploy(arguments)) => request(*arguments),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_deployment_keeps_order_and_default_limits() {
        let words = ["--input", "a", "--input", "b", "-o", "x", "-o", "y", "-s", "s", "--setting", "k=v=w"];
        let request = deployed(&words);
        assert_eq!((request.inputs, request.outputs), (vec!["a".into(), "b".into()], vec!["x".into(), "y".into()]));
        assert_eq!(request.settings, [("k".to_owned(), "v=w".to_owned())]);
        assert_eq!((request.from, request.limits), (StartFrom::Earliest, ProcessorLimits::default()));
    }

    #[test]
    fn an_error_policy_is_given_in_words() {
        let policy = |words: &[&str]| deployed(&[&["-i", "a"], words].concat()).errors;
        assert_eq!(policy(&[]), ErrorPolicy::default());
        let skip = ErrorPolicy { retries: 0, then: OnError::Skip };
        assert_eq!(policy(&["--on-error", "skip", "--retries", "0"]), skip);
        let then = OnError::DeadLetter { topic: "bad".to_owned() };
        let words = ["--on-error", "dead-letter", "--dead-letter-topic", "bad"];
        assert_eq!(policy(&words), ErrorPolicy { then, ..ErrorPolicy::default() });
        let line = ["headwater", "processor", "deploy", "p", "-m", "m", "-i", "a", "--on-error", "dead-letter"];
        let refusal = Arguments::try_parse_from(line).unwrap_err().to_string();
        assert!(refusal.contains("--dead-letter-topic"), "{refusal}");
    }

    #[test]
    fn a_shadow_takes_nothing_that_it_would_ignore() {
        assert!(deployed(&["--shadow", "--setting", "a=b"]).shadow);
        for words in [["-i", "a"], ["-o", "a"], ["-s", "a"], ["--from", "latest"], ["--on-error", "skip"]] {
            let line = [&["headwater", "processor", "deploy", "p", "-m", "m", "--shadow"][..], &words].concat();
            let refusal = Arguments::try_parse_from(line).unwrap_err().to_string();
            assert!(refusal.contains("--shadow") && refusal.contains("cannot be used"), "{refusal}");
        }
    }

    #[test]
    fn limits_are_given_as_sizes_and_counts() {
        let words = ["-i", "a", "--memory-max", "128MiB", "--records-per-step-max", "10", "--from", "latest"];
        let request = deployed(&words);
        assert_eq!((request.limits.memory_bytes_max, request.limits.records_per_step_max), (128 << 20, 10));
        assert_eq!(request.limits.state_bytes_max, ProcessorLimits::default().state_bytes_max);
        assert_eq!(request.from, StartFrom::Latest);
    }

    #[test]
    fn a_log_line_says_when_how_bad_and_where() {
        let line = ProcessorLogLine {
            number: 7,
            at: 1_763_884_800_123,
            task: 2,
            level: LogLevel::Warn,
            message: "odd".to_owned(),
        };
        assert_eq!(log_text(&line), "2025-11-23T08:00:00.123Z warn  task 2: odd");
        assert_eq!(log_object(&line)["number"], 7);
    }
}
