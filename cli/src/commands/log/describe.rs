//! `headwater log describe`.

mod shown;

use super::choose;
use crate::arguments::GlobalOptions;
use crate::context::connect;
use crate::error::CliError;
use crate::limits::{DESCRIBED_PARTITIONS_MAX, DESCRIBED_SEGMENTS_MAX, GATHERED_SEGMENTS_MAX};
use clap::Args;
use headwater_client::Admin;
use headwater_protocol::error::ApiError;
use headwater_protocol::ids::TopicId;
use headwater_protocol::messages::log::LogDescription;

/// Words of `headwater log describe`.
#[derive(Debug, Args)]
#[command(after_help = "\
The recovery point is the offset below which everything is synced. Of a compacted topic the cleaner's progress is shown:
what is dirty was appended since the last cleaning; the segment that grows is not cleaned. What is said of the last
cleaning is kept until the broker stops.

Examples:
  headwater log describe words
  headwater log describe words --partition 3 --format json
  headwater log describe")]
pub(crate) struct DescribeArguments {
    /// Only these topics [default: all, internal ones too].
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// Only this partition.
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
}

/// What is known of one partition.
struct Described {
    topic: String,
    number: u32,
    /// All its segments, or why nothing is known.
    log: Result<LogDescription, ApiError>,
}

pub(super) async fn run(arguments: &DescribeArguments, global: &GlobalOptions) -> Result<(), CliError> {
    let client = connect(global).await?;
    let described = describe(&client.admin(), arguments).await;
    client.close().await;
    let described = described?;
    global.format.print(&shown::document(&described), || shown::text(&described))?;
    for Described { topic, number, log } in described {
        if let Err(error) = log {
            return Err(CliError::Refused { what: format!("{topic}-{number}"), error });
        }
    }
    Ok(())
}

async fn describe(admin: &Admin, arguments: &DescribeArguments) -> Result<Vec<Described>, CliError> {
    let (_, partitions) = choose(admin, &arguments.topics, arguments.partition).await?;
    let mut all = Vec::with_capacity(partitions.len());
    let mut gathered = 0;
    for some in partitions.chunks(DESCRIBED_PARTITIONS_MAX) {
        let asked = some.iter().map(|(_, topic, number)| (*topic, *number, 0)).collect();
        let answers = admin.describe_log(asked, DESCRIBED_SEGMENTS_MAX).await?;
        for ((topic, id, number), answer) in some.iter().zip(answers) {
            let log = match answer {
                Ok(first) => gather(admin, (*id, *number), first, &mut gathered).await?,
                Err(error) => Err(error),
            };
            all.push(Described { topic: topic.clone(), number: *number, log });
        }
    }
    Ok(all)
}

/// Asks for the segments that did not come with the first answer.
async fn gather(
    admin: &Admin,
    (topic, number): (TopicId, u32),
    mut log: LogDescription,
    gathered: &mut usize,
) -> Result<Result<LogDescription, ApiError>, CliError> {
    *gathered += log.segments.len();
    while let Some(from) = log.next_offset {
        if *gathered > GATHERED_SEGMENTS_MAX {
            let message = format!("more than {GATHERED_SEGMENTS_MAX} segments: name topics, or a --partition");
            return Err(CliError::Usage(message));
        }
        let Some(answer) = admin.describe_log(vec![(topic, number, from)], DESCRIBED_SEGMENTS_MAX).await?.pop() else {
            break;
        };
        let page = match answer {
            Ok(page) => page,
            Err(error) => return Ok(Err(error)),
        };
        // Segments may have become one meanwhile, which begins below where this page should.
        let behind = log.segments.last().map_or(i64::MIN, |last| last.next_offset);
        *gathered += page.segments.len();
        let (segments, quarantined) = (std::mem::take(&mut log.segments), std::mem::take(&mut log.quarantined));
        let fresh = page.segments.into_iter().filter(|segment| segment.base_offset >= behind);
        let fresh_ranges = page.quarantined.into_iter().filter(|range| range.from >= behind);
        log = LogDescription {
            segments: segments.into_iter().chain(fresh).collect(),
            quarantined: quarantined.into_iter().chain(fresh_ranges).collect(),
            quarantined_count: log.quarantined_count.saturating_add(page.quarantined_count),
            next_offset: page.next_offset.filter(|next| *next > from),
            ..page
        };
    }
    Ok(Ok(log))
}
