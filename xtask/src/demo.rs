//! `cargo xtask demo`: the whole path, seen working. A broker on embedded defaults, word-count compiled and uploaded,
//! two books streamed through it, and every count compared with a straight count of the same text.

pub(crate) mod compaction;

use crate::command::{Error, Result, output, shown};
use crate::setup::{Permission, guest_compiler};
use crate::word_count;
use crate::workspace::{build_headwater, root, target_directory};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const TEXTS: &[&str] = &["king-james-bible.txt", "devils-dictionary.txt"];
const START_SECONDS_MAX: u64 = 30;

/// Runs the demo; says OK, or fails with what differed.
pub(crate) fn run(permission: Permission) -> Result<()> {
    let compiler = guest_compiler(permission)?;
    let headwater = build_headwater()?;
    let data = target_directory()?.join("demo");
    if data.exists() {
        fs::remove_dir_all(&data).map_err(|error| Error::new(format!("{}: {error}", data.display())))?;
    }
    let components = target_directory()?.join("components");
    let component = crate::modules::build(&headwater, &compiler, &root().join("modules/word-count"), &components)?;

    let started = Instant::now();
    let broker = Broker::start(&headwater, &data)?;
    let headwater = |arguments: &[&str]| broker.show(arguments);
    // One partition in: each task counts for itself, so a word must always come to the same one.
    headwater(&["topic", "create", "lines"])?;
    headwater(&["topic", "create", "counts", "--partitions", "4"])?;
    headwater(&["module", "upload", "word-count", &component.to_string_lossy()])?;
    let deploy = ["--module", "word-count", "--input", "lines", "--output", "counts", "--store", "counts"];
    headwater(&[&["processor", "deploy", "word-count"], deploy.as_slice()].concat())?;

    let texts = read_texts()?;
    produce(&broker, &texts)?;
    let expected = word_count::count(&texts);
    let counts = consume_counts(&broker, expected.values().sum())?;
    compare(&counts, &expected)?;

    println!("\nThe most frequent words:");
    for (word, count) in word_count::top(&counts, 10) {
        println!("  {count:>7}  {word}");
    }
    let occurrences: u64 = expected.values().sum();
    println!(
        "\nOK: {} words, {occurrences} occurrences, each counted exactly once, in {:.1} s.",
        expected.len(),
        started.elapsed().as_secs_f64()
    );
    broker.stop()?;
    print_way_on(&broker_command(&data));
    Ok(())
}

fn read_texts() -> Result<String> {
    let mut texts = String::new();
    for name in TEXTS {
        let path = root().join("xtask/texts").join(name);
        let text = fs::read_to_string(&path).map_err(|error| Error::new(format!("{}: {error}", path.display())))?;
        texts.push_str(&text);
    }
    Ok(texts)
}

/// Streams the lines through `headwater produce`.
fn produce(broker: &Broker, texts: &str) -> Result<()> {
    let bar = progress_bar(texts.len() as u64, "{prefix:9} {bar:40} {bytes}/{total_bytes} {eta}", "produced");
    let mut command = broker.command(&["produce", "lines"]);
    let failed = |error: std::io::Error| Error::new(format!("`headwater produce lines`: {error}"));
    let mut producer = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().map_err(failed)?;
    let mut lines = producer.stdin.take().ok_or_else(|| Error::new("`headwater produce` has no standard input"))?;
    let mut written = Ok(());
    for chunk in texts.as_bytes().chunks(64 << 10) {
        written = lines.write_all(chunk);
        if written.is_err() {
            break;
        }
        bar.inc(chunk.len() as u64);
    }
    drop(lines);
    let status = producer.wait().map_err(failed)?;
    bar.finish();
    if !status.success() {
        return Err(Error::new(format!("`headwater produce lines` failed: {status}")));
    }
    written.map_err(failed)
}

/// Reads as many output records as there are occurrences of words, and checks on the way that each word's counts
/// rise by exactly one from 1.
fn consume_counts(broker: &Broker, occurrences: u64) -> Result<HashMap<String, u64>> {
    let bar = progress_bar(occurrences, "{prefix:9} {bar:40} {human_pos}/{human_len} {eta}", "counted");
    let most = occurrences.to_string();
    let mut command = broker.command(&["consume", "counts", "--from-beginning", "--print-key"]);
    command.args(["--key-separator", "\t", "--max-messages", &most]);
    let failed = |error: std::io::Error| Error::new(format!("`headwater consume counts`: {error}"));
    let mut consumer = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let records = consumer.stdout.take().ok_or_else(|| Error::new("`headwater consume` has no standard output"))?;
    let mut counts: HashMap<String, u64> = HashMap::new();
    for record in BufReader::new(records).lines() {
        let record = record.map_err(failed)?;
        let parsed = record.split_once('\t').and_then(|(word, count)| Some((word, count.parse::<u64>().ok()?)));
        let (word, count) = parsed.ok_or_else(|| Error::new(format!("the output has a strange record: {record:?}")))?;
        let last = counts.entry(word.to_owned()).or_default();
        if count != *last + 1 {
            return Err(Error::new(format!("the count of {word:?} went from {last} to {count}")));
        }
        *last = count;
        bar.inc(1);
    }
    bar.finish();
    let status = consumer.wait().map_err(failed)?;
    if status.success() { Ok(counts) } else { Err(Error::new(format!("`headwater consume counts` failed: {status}"))) }
}

fn compare(counts: &HashMap<String, u64>, expected: &HashMap<String, u64>) -> Result<()> {
    let differing = expected.iter().find(|(word, count)| counts.get(*word) != Some(count));
    if let Some((word, count)) = differing {
        let found = counts.get(word).copied().unwrap_or_default();
        return Err(Error::new(format!("{word:?} occurs {count} times, the processor counted {found}")));
    }
    match counts.keys().find(|word| !expected.contains_key(*word)) {
        Some(word) => Err(Error::new(format!("the processor counted {word:?}, which no text has"))),
        None => Ok(()),
    }
}

fn progress_bar(length: u64, template: &str, prefix: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(length).with_prefix(prefix);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn broker_command(data: &Path) -> String {
    format!("headwater dev --data {}", data.display())
}

fn print_way_on(dev: &str) {
    println!("\nTo go on by hand (`alias headwater='cargo run --quiet --package headwater-cli --'`):");
    println!("  {dev}");
    let context = dev.replacen("headwater dev --data ", "export HEADWATER_CONTEXT=", 1);
    println!("  {context}/context.toml    # in another terminal");
    println!("  headwater processor describe word-count");
    println!("  headwater consume counts --from-beginning --print-key --max-messages 10");
    println!("  echo 'to be or not to be' | headwater produce lines");
}

/// A broker of our own: `headwater dev` as a child process, ended with us.
struct Broker {
    child: Child,
    headwater: PathBuf,
    context: PathBuf,
}

impl Broker {
    fn start(headwater: &Path, data: &Path) -> Result<Self> {
        let mut command = Command::new(headwater);
        command.args(["dev", "--port", "0", "--data"]).arg(data).stdin(Stdio::null());
        let failed = |error: std::io::Error| Error::new(format!("{}: {error}", data.display()));
        fs::create_dir_all(data).map_err(failed)?;
        let log = fs::File::create(data.join("broker.log")).map_err(failed)?;
        command.stdout(log.try_clone().map_err(failed)?).stderr(log);
        eprintln!("+ {}    (its log: {})", shown(&command), data.join("broker.log").display());
        let child = command.spawn().map_err(|error| Error::new(format!("can't start the broker: {error}")))?;
        let mut broker = Self { child, headwater: headwater.to_owned(), context: data.join("context.toml") };
        let deadline = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        loop {
            let ready = broker.context.exists().then(|| broker.headwater(&["topic", "list"]));
            match ready {
                Some(Ok(_)) => return Ok(broker),
                Some(Err(error)) if Instant::now() > deadline => return Err(error),
                None if Instant::now() > deadline => return Err(broker.said("the broker does not start")),
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
            if let Ok(Some(status)) = broker.child.try_wait() {
                return Err(broker.said(&format!("the broker ended at once ({status})")));
            }
        }
    }

    /// An error with what the broker had to say.
    fn said(&self, what: &str) -> Error {
        let log = fs::read_to_string(self.context.with_file_name("broker.log")).unwrap_or_default();
        Error::new(format!("{what}:\n{log}"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.headwater);
        command.args(arguments).env("HEADWATER_CONTEXT", &self.context);
        command
    }

    fn headwater(&self, arguments: &[&str]) -> Result<String> {
        output(&mut self.command(arguments))
    }

    /// As [`Self::headwater`], shown to whoever watches.
    fn show(&self, arguments: &[&str]) -> Result<String> {
        eprintln!("+ headwater {}", arguments.join(" "));
        self.headwater(arguments)
    }

    /// Stops the broker in an orderly way, as Ctrl-C would.
    fn stop(mut self) -> Result<()> {
        output(Command::new("kill").args(["-INT", &self.child.id().to_string()]))?;
        let status = self.child.wait().map_err(|error| Error::new(format!("the broker: {error}")))?;
        if status.success() { Ok(()) } else { Err(Error::new(format!("the broker did not stop in order: {status}"))) }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // After an error: the broker is ours and nobody waits for its data. It may have ended already.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}
