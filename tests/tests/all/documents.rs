//! Every command that a document prints is run, as printed, in the document's order, against a fresh broker.
//!
//! A block fenced as `sh` holds commands, one a line. `cargo xtask …` is what runs these tests, so it is only looked
//! up; a broker is running already when `headwater dev` or `headwater broker` comes up. A command that would follow for
//! ever (`headwater consume` without `--max-messages`) is interrupted, as a reader would, once it has printed
//! something.

use crate::broker_process::{Broker, PATIENCE, headwater_binary, signal};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The commands of a document, with their line numbers.
fn commands(document: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(document).unwrap();
    let mut inside = false;
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut continued = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            inside = line.trim() == "```sh";
            continue;
        }
        let command = line.trim();
        if !inside || command.is_empty() || command.starts_with('#') {
            continue;
        }
        match found.last_mut() {
            Some((_, begun)) if continued => {
                begun.truncate(begun.len() - 1);
                begun.push_str(command);
            }
            _ => found.push((index + 1, command.to_owned())),
        }
        continued = command.ends_with('\\');
    }
    found
}

/// A broker, a directory that stands for the reader's clone of the project, and a shell with `headwater` on its path.
struct Reader {
    broker: Broker,
    path: String,
}

impl Reader {
    fn new() -> Self {
        let broker = Broker::start();
        let programs = broker.scratch().join("programs");
        fs::create_dir(&programs).unwrap();
        std::os::unix::fs::symlink(headwater_binary(), programs.join("headwater")).unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        std::os::unix::fs::symlink(root().join("modules"), broker.scratch().join("modules")).unwrap();
        std::os::unix::fs::symlink(root().join("xtask"), broker.scratch().join("xtask")).unwrap();
        Self { broker, path }
    }

    fn run(&self, command: &str) -> Result<(), String> {
        let follows = command.contains("headwater consume") && !command.contains("--max-messages")
            || command.contains("--follow");
        let log = self.broker.scratch().join("command.log");
        let output = fs::File::create(&log).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", &if follows { format!("exec {command}") } else { command.to_owned() }])
            .env("PATH", &self.path)
            .env("HEADWATER_CONTEXT", self.broker.context())
            .env("CARGO_TARGET_DIR", std::env::temp_dir().join("headwater-document-modules"))
            .current_dir(self.broker.scratch())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let printed = || fs::read_to_string(&log).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut interrupted = false;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if follows && !interrupted && !printed().is_empty() {
                signal(child.id(), "INT");
                interrupted = true;
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                return Err(format!("hangs; printed so far:\n{}", printed()));
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        if status.success() { Ok(()) } else { Err(format!("{status}\n{}", printed())) }
    }
}

fn run_document(document: &Path) {
    let commands = commands(document);
    let reader = Reader::new();
    for (line, command) in commands {
        if command.starts_with("cargo xtask ") || command.starts_with("headwater dev") {
            continue;
        }
        if command.starts_with("headwater broker --config") {
            continue;
        }
        if let Err(failure) = reader.run(&command) {
            let broker = reader.broker.broker_output();
            panic!("{}:{line}: `{command}`: {failure}\nbroker:\n{broker}", document.display());
        }
    }
}

/// README, ARCHITECTURE and docs, those that hold commands.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md"), root().join("ARCHITECTURE.md"), root().join("CONTRIBUTING.md")];
    found.extend(fs::read_dir(root().join("docs")).unwrap().flatten().map(|entry| entry.path()));
    found.retain(|path| path.extension().is_some_and(|ending| ending == "md") && !commands(path).is_empty());
    found.sort();
    found
}

#[test]
fn every_printed_command_works() {
    let documents = documents();
    assert!(documents.iter().any(|path| path.ends_with("README.md")), "the README prints no command?");
    for document in documents {
        run_document(&document);
    }
}

#[test]
fn what_the_kafka_guide_shows_under_command_line_tools_works() {
    let document = root().join("docs/from-kafka.md");
    assert!(commands(&document).len() >= 8, "one command of ours for each line of the guide");
    run_document(&document);
}

#[test]
fn xtask_commands_that_documents_print_exist() {
    let tasks = fs::read_to_string(root().join("xtask/src/main.rs")).unwrap();
    for document in documents() {
        for (line, command) in commands(&document) {
            if let Some(task) = command.strip_prefix("cargo xtask ").and_then(|rest| rest.split(' ').next()) {
                let variant: String = task.split('-').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
                let known = tasks.contains(&format!("    {variant}"));
                assert!(known, "{}:{line}: cargo xtask has no `{task}`", document.display());
            }
        }
    }
}
