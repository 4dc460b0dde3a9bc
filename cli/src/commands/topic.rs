//! `headwater topic`.

use crate::arguments::GlobalOptions;
use crate::context::connect;
use crate::error::CliError;
use crate::output::{Format, pairs, table};
use crate::text::parse_setting;
use clap::{Args, Subcommand};
use headwater_client::{Admin, ClientError};
use headwater_protocol::error::{ApiError, ErrorCode};
use headwater_protocol::ids::BrokerId;
use headwater_protocol::messages::cluster::{SettingMetadata, TopicMetadata};
use headwater_protocol::messages::topic::{AlterTopicRequest, CreatedTopic, NewTopic};
use serde_json::{Value, json};

/// Words of `headwater topic`.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Create a topic.
    Create(CreateArguments),
    /// List topics.
    #[command(after_help = "\
Examples:
  headwater topic list
  headwater topic list --internal --format json")]
    List {
        /// Also those of the broker's own, such as changelogs.
        #[arg(long)]
        internal: bool,
    },
    /// Show a topic's partitions, replicas and settings.
    #[command(after_help = "\
Examples:
  headwater topic describe lines
  headwater topic describe lines --all-settings")]
    Describe {
        /// Name of the topic.
        topic: String,
        /// Also settings that have their default.
        #[arg(long)]
        all_settings: bool,
    },
    /// Change settings of a topic that is in use.
    Alter(AlterArguments),
    /// Delete the oldest records of a topic; the offsets of those that stay do not change.
    DeleteRecords(DeleteRecordsArguments),
    /// Delete topics and all their records.
    #[command(after_help = "\
Examples:
  headwater topic delete lines
  headwater topic delete lines counts --if-exists")]
    Delete {
        /// Names of the topics.
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
        /// A topic that isn't there is no failure.
        #[arg(long)]
        if_exists: bool,
    },
}

/// Words of `headwater topic create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater topic create lines
  headwater topic create counts --partitions 4 --config durability=os --if-not-exists")]
pub(crate) struct CreateArguments {
    /// Name: 1 to 249 of a-z A-Z 0-9 . _ -
    topic: String,
    /// Number of partitions [default: the broker's].
    #[arg(long, short)]
    partitions: Option<u32>,
    /// Number of replicas of each partition [default: the broker's].
    #[arg(long)]
    replication_factor: Option<u16>,
    /// Setting of the topic; may be repeated. `topic describe --all-settings` shows what there is.
    #[arg(long = "config", short, value_name = "NAME=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,
    /// A topic that is there already is no failure.
    #[arg(long)]
    if_not_exists: bool,
    /// Check everything, create nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Words of `headwater topic alter`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater topic alter lines --set durability=os --set segment.bytes=67108864
  headwater topic alter lines --delete segment.bytes")]
pub(crate) struct AlterArguments {
    /// Setting to set; may be repeated. `topic describe --all-settings` shows what there is.
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = parse_setting, required_unless_present = "delete")]
    set: Vec<(String, String)>,
    /// Setting that gets its default back; may be repeated.
    #[arg(long, short, value_name = "NAME")]
    delete: Vec<String>,
    /// Name of the topic.
    topic: String,
    /// Check everything, change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Words of `headwater topic delete-records`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headwater topic delete-records lines --partition 0 --before 1000
  headwater topic delete-records lines --before latest")]
pub(crate) struct DeleteRecordsArguments {
    /// Name of the topic.
    topic: String,
    /// Records below this offset go; `latest`: all there are.
    #[arg(long, value_name = "OFFSET", value_parser = parse_before, allow_negative_numbers = true)]
    before: i64,
    /// Partition; may be repeated [default: all].
    #[arg(long, value_name = "NUMBER")]
    partition: Vec<u32>,
}

/// What the protocol calls all that is committed.
const ALL_RECORDS: i64 = -1;

fn parse_before(text: &str) -> Result<i64, String> {
    match text {
        "latest" => Ok(ALL_RECORDS),
        number => match number.parse() {
            Ok(offset) if offset >= 0 => Ok(offset),
            Ok(_) | Err(_) => Err("it is an offset, 0 or more, or latest".to_owned()),
        },
    }
}

pub(crate) async fn run(command: TopicCommand, global: &GlobalOptions) -> Result<(), CliError> {
    let client = connect(global).await?;
    let (admin, format) = (client.admin(), global.format);
    let outcome = match command {
        TopicCommand::Create(arguments) => create(&admin, arguments, format).await,
        TopicCommand::List { internal } => list(&admin, internal, format).await,
        TopicCommand::Describe { topic, all_settings } => describe(&admin, &topic, all_settings, format).await,
        TopicCommand::Alter(arguments) => alter(&admin, arguments, format).await,
        TopicCommand::DeleteRecords(arguments) => delete_records(&admin, arguments, format).await,
        TopicCommand::Delete { topics, if_exists } => delete(&admin, topics, if_exists, format).await,
    };
    client.close().await;
    outcome
}

async fn create(admin: &Admin, arguments: CreateArguments, format: Format) -> Result<(), CliError> {
    let CreateArguments { topic: name, partitions, replication_factor, settings, if_not_exists, dry_run } = arguments;
    let topic = NewTopic { name: name.clone(), partitions, replication_factor, settings };
    let outcome = admin.create_topics(vec![topic], dry_run).await?;
    match one(outcome) {
        Ok(CreatedTopic { id, partitions }) => {
            let document = json!({"name": name, "id": id.to_string(), "partitions": partitions, "created": !dry_run});
            let done = if dry_run { "can be created" } else { "created" };
            format.print(&document, || format!("topic {name} {done}: {partitions} partition{}", plural(partitions)))
        }
        Err(error) if error.code == ErrorCode::TopicAlreadyExists && if_not_exists => {
            let there = admin.describe_topic(&name).await?;
            let partitions = there.partitions.len();
            let document =
                json!({"name": name, "id": there.id.to_string(), "partitions": partitions, "created": false});
            format.print(&document, || format!("topic {name} is there already"))
        }
        Err(error) => Err(ClientError::from(error).into()),
    }
}

fn one<T>(outcomes: Vec<Result<T, ApiError>>) -> Result<T, ApiError> {
    let missing = || ApiError::new(ErrorCode::UnknownServerError, "the broker gave no answer: it breaks the protocol");
    outcomes.into_iter().next().unwrap_or_else(|| Err(missing()))
}

fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}

async fn list(admin: &Admin, internal: bool, format: Format) -> Result<(), CliError> {
    let mut topics = admin.metadata(None, internal).await?.topics;
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let documents: Vec<Value> = topics
        .iter()
        .map(|topic| {
            json!({
                "name": topic.name,
                "id": topic.id.to_string(),
                "partitions": topic.partitions.len(),
                "replication_factor": replication_factor(topic),
                "internal": topic.internal,
            })
        })
        .collect();
    format.print(&Value::from(documents), || {
        let rows = topics.iter().map(|topic| {
            vec![topic.name.clone(), topic.partitions.len().to_string(), replication_factor(topic).to_string()]
        });
        table(&["topic", "partitions", "replicas"], &[1, 2], rows)
    })
}

fn replication_factor(topic: &TopicMetadata) -> usize {
    topic.partitions.iter().map(|partition| partition.replicas.len()).max().unwrap_or_default()
}

async fn describe(admin: &Admin, name: &str, all_settings: bool, format: Format) -> Result<(), CliError> {
    let topic = admin.describe_topic(name).await?;
    format.print(&description(&topic), || description_text(&topic, all_settings))
}

fn description(topic: &TopicMetadata) -> Value {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|broker| broker.0).collect::<Vec<_>>();
    let partitions: Vec<Value> = topic
        .partitions
        .iter()
        .enumerate()
        .map(|(number, partition)| {
            json!({
                "partition": number,
                "leader": partition.leader.map(|leader| leader.0),
                "leader_epoch": partition.leader_epoch.0,
                "replicas": ids(&partition.replicas),
                "isr": ids(&partition.isr),
            })
        })
        .collect();
    json!({
        "name": topic.name,
        "id": topic.id.to_string(),
        "internal": topic.internal,
        "replication_factor": replication_factor(topic),
        "partitions": partitions,
        "settings": settings_document(&topic.settings),
    })
}

fn settings_document(settings: &[SettingMetadata]) -> Vec<Value> {
    let mut documents = Vec::new();
    for SettingMetadata { name, value, set_on_topic } in settings {
        documents.push(json!({"name": name, "value": value, "set_on_topic": set_on_topic}));
    }
    documents
}

fn description_text(topic: &TopicMetadata, all_settings: bool) -> String {
    let ids = |brokers: &[BrokerId]| {
        let numbers: Vec<String> = brokers.iter().map(|broker| broker.0.to_string()).collect();
        numbers.join(",")
    };
    let facts = pairs(&[
        ("topic", topic.name.clone()),
        ("id", topic.id.to_string()),
        ("partitions", topic.partitions.len().to_string()),
        ("replication factor", replication_factor(topic).to_string()),
    ]);
    let rows = topic.partitions.iter().enumerate().map(|(number, partition)| {
        let leader = partition.leader.map_or_else(|| "none".to_owned(), |leader| leader.0.to_string());
        let epoch = partition.leader_epoch.0.to_string();
        vec![number.to_string(), leader, epoch, ids(&partition.replicas), ids(&partition.isr)]
    });
    let partitions = table(&["partition", "leader", "epoch", "replicas", "isr"], &[0, 1, 2], rows);
    format!("{facts}\n\n{partitions}\n\n{}", settings_text(&topic.settings, all_settings))
}

/// Each value, and where it comes from; nothing if there is none.
fn settings_text(settings: &[SettingMetadata], all: bool) -> String {
    let row = |setting: &SettingMetadata| {
        let origin = if setting.set_on_topic { "topic" } else { "default" };
        vec![setting.name.clone(), setting.value.clone(), origin.to_owned()]
    };
    let rows: Vec<_> = settings.iter().filter(|setting| all || setting.set_on_topic).map(row).collect();
    if rows.is_empty() { String::new() } else { table(&["setting", "value", "from"], &[], rows) }
}

async fn alter(admin: &Admin, arguments: AlterArguments, format: Format) -> Result<(), CliError> {
    let AlterArguments { topic: name, set, delete, dry_run } = arguments;
    let request = AlterTopicRequest { name, set, delete, validate_only: dry_run };
    let settings = admin.alter_topic(&request).await?;
    let name = request.name;
    let document = json!({"name": name, "altered": !dry_run, "settings": settings_document(&settings)});
    format.print(&document, || {
        let done = if dry_run { "would have these settings" } else { "has these settings now" };
        format!("topic {name} {done}:\n\n{}", settings_text(&settings, true))
    })
}

async fn delete_records(admin: &Admin, arguments: DeleteRecordsArguments, format: Format) -> Result<(), CliError> {
    let DeleteRecordsArguments { topic: name, before, partition } = arguments;
    let topic = admin.describe_topic(&name).await?;
    let all = 0..u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    let partitions: Vec<u32> = if partition.is_empty() { all.collect() } else { partition };
    let asked = partitions.iter().map(|partition| (topic.id, *partition, before)).collect();
    let (mut starts, mut failure) = (Vec::new(), None);
    for (partition, outcome) in partitions.into_iter().zip(admin.delete_records(asked).await?) {
        match outcome {
            Ok(log_start) => starts.push((partition, log_start)),
            Err(error) => {
                failure = failure.or(Some(CliError::Refused { what: format!("{name}-{partition}"), error }));
            }
        }
    }
    let mut documents = Vec::new();
    for (partition, log_start) in &starts {
        documents.push(json!({"topic": name, "partition": partition, "log_start_offset": log_start}));
    }
    format.print(&Value::from(documents), || {
        let row =
            |(partition, log_start): &(u32, i64)| vec![name.clone(), partition.to_string(), log_start.to_string()];
        if starts.is_empty() {
            String::new()
        } else {
            table(&["topic", "partition", "begins at"], &[1, 2], starts.iter().map(row))
        }
    })?;
    failure.map_or(Ok(()), Err)
}

async fn delete(admin: &Admin, names: Vec<String>, if_exists: bool, format: Format) -> Result<(), CliError> {
    let outcomes = admin.delete_topics(names.clone()).await?;
    let mut deleted = Vec::new();
    let mut failure = None;
    for (name, outcome) in names.into_iter().zip(outcomes) {
        match outcome {
            Ok(id) => deleted.push((name, id)),
            Err(error) if if_exists && error.code == ErrorCode::UnknownTopicOrPartition => {}
            Err(error) => failure = failure.or(Some(CliError::Refused { what: format!("topic {name}"), error })),
        }
    }
    let documents: Vec<Value> = deleted.iter().map(|(name, id)| json!({"name": name, "id": id.to_string()})).collect();
    format.print(&Value::from(documents), || {
        deleted.iter().map(|(name, _)| format!("topic {name} deleted\n")).collect()
    })?;
    failure.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_protocol::ids::{LeaderEpoch, PartitionEpoch, TopicId};
    use headwater_protocol::messages::cluster::PartitionMetadata;

    fn topic() -> TopicMetadata {
        let partition = |leader| PartitionMetadata {
            leader,
            leader_epoch: LeaderEpoch(3),
            partition_epoch: PartitionEpoch(9),
            replicas: vec![BrokerId(1), BrokerId(2)],
            isr: vec![BrokerId(1)],
        };
        let setting =
            |name: &str, set_on_topic| SettingMetadata { name: name.to_owned(), value: "v".to_owned(), set_on_topic };
        TopicMetadata {
            name: "lines".to_owned(),
            id: TopicId([7; 16]),
            internal: false,
            partitions: vec![partition(Some(BrokerId(1))), partition(None)],
            settings: vec![setting("durability", true), setting("segment.bytes", false)],
        }
    }

    #[test]
    fn a_description_names_leaders_replicas_and_settings() {
        let document = description(&topic());
        assert_eq!(document["partitions"][0]["leader"], 1);
        assert_eq!(document["partitions"][1]["leader"], Value::Null);
        assert_eq!(document["replication_factor"], 2);
        assert_eq!(document["settings"][1]["set_on_topic"], false);
        let text = description_text(&topic(), false);
        assert!(text.contains("        1    none      3  1,2       1"), "{text}");
        assert!(text.contains("durability") && !text.contains("segment.bytes"), "{text}");
        assert!(description_text(&topic(), true).contains("segment.bytes"));
    }

    #[test]
    fn no_answer_is_the_brokers_fault() {
        assert!(one::<()>(Vec::new()).unwrap_err().message.contains("broker"));
    }
}
