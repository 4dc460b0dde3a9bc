//! The words of the command line.

use crate::commands::{
    broker::BrokerArguments, consume::ConsumeArguments, dev::DevArguments, dump_log::DumpLogArguments, log::LogCommand,
    log_dirs::LogDirsArguments, module::ModuleCommand, offsets::OffsetsArguments, processor::ProcessorCommand,
    produce::ProduceArguments, topic::TopicCommand,
};
use crate::output::Format;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// A streaming platform that you extend with WebAssembly.
#[derive(Debug, Parser)]
#[command(name = "headwater", version, after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: GlobalOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
The cluster is found by a context file, which `headwater dev` writes: --context,
else HEADWATER_CONTEXT, else ./headwater-data/context.toml,
else ~/.config/headwater/context.toml.

Examples:
  headwater dev
  headwater topic create lines --partitions 2
  echo 'to be or not to be' | headwater produce lines
  headwater consume lines --from-beginning

Exit codes: 0 done, 1 failed, 2 wrong usage.
HEADWATER_LOG=debug shows what happens inside.";

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct GlobalOptions {
    /// Broker to ask, in place of those of the context file; may be repeated.
    #[arg(long, global = true, value_name = "HOST:PORT", id = "broker-address")]
    pub(crate) broker: Vec<String>,
    /// Context file: brokers, CA, client certificate and key [env: HEADWATER_CONTEXT].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) context: Option<PathBuf>,
    /// How results are printed: for people, or for programs (one JSON document, or one object a line).
    #[arg(long, global = true, value_enum, default_value_t, value_name = "text|json", hide_possible_values = true)]
    pub(crate) format: Format,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a broker for development: data, certificates and context file are made on first start.
    Dev(DevArguments),
    /// Run a broker with a configuration file.
    Broker(BrokerArguments),
    /// Create, list, describe and delete topics.
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Write lines to a topic, one record a line.
    Produce(ProduceArguments),
    /// Print a topic's records; follows the topic until Ctrl-C.
    Consume(ConsumeArguments),
    /// Print offsets of a topic's partitions.
    Offsets(OffsetsArguments),
    /// Print what partitions take on the brokers' disks.
    LogDirs(LogDirsArguments),
    /// Describe and check what lies in logs.
    #[command(subcommand)]
    Log(LogCommand),
    /// Print the batches and records of a segment's file, without a broker.
    DumpLog(DumpLogArguments),
    /// Build, upload, list, describe and delete modules.
    #[command(subcommand)]
    Module(ModuleCommand),
    /// Deploy processors and look after them.
    #[command(subcommand)]
    Processor(ProcessorCommand),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_an_example() {
        fn visit(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{} has no description", command.get_name());
            if command.has_subcommands() {
                command.get_subcommands().for_each(visit);
            } else {
                let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(after.contains("headwater "), "{} shows no example", command.get_name());
                for option in command.get_arguments() {
                    assert!(option.get_help().is_some(), "{}: {} has no help", command.get_name(), option.get_id());
                }
            }
        }
        Arguments::command().get_subcommands().for_each(visit);
    }

    #[test]
    fn global_options_may_stand_anywhere() {
        let line = ["headwater", "topic", "list", "--format", "json", "--broker", "a:1", "--broker", "b:2"];
        let arguments = Arguments::try_parse_from(line).unwrap();
        assert_eq!(arguments.global.format, Format::Json);
        assert_eq!(arguments.global.broker, ["a:1", "b:2"]);
    }

    #[test]
    fn every_example_parses() {
        fn examples(command: &clap::Command, found: &mut Vec<String>) {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let lines = after.lines().filter_map(|line| line.find("headwater ").map(|at| line[at..].to_owned()));
            found.extend(lines.filter(|line| !line.contains('`') && !line.contains("dev` ")));
            command.get_subcommands().for_each(|inner| examples(inner, found));
        }
        let mut found = Vec::new();
        examples(&Arguments::command(), &mut found);
        assert!(found.len() > 20, "{found:?}");
        for example in found {
            let words = example.split(['|', '>']).next().unwrap_or_default().split_whitespace();
            Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{example}: {error}"));
        }
    }
}
