//! A broker of the benchmark's own: this program again, as `headwater dev`, in a process that can be measured.

use crate::Result;
use crate::options::Options;
use bytes::Bytes;
use headwater_client::{Client, Context};
use headwater_protocol::messages::topic::NewTopic;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Bytes of a module's component that is built.
pub(crate) fn component(options: &Options, name: &str) -> Result<Bytes> {
    let path = options.components()?.join(format!("{name}.wasm"));
    let read = std::fs::read(&path);
    let bytes = read.map_err(|error| format!("{}: {error}: run `cargo xtask bench`", path.display()))?;
    Ok(bytes.into())
}

/// A child process that ends with its owner.
pub(crate) struct ChildProcess {
    child: Child,
    _output: BufReader<ChildStdout>,
}

impl ChildProcess {
    /// Starts this program with these words; gives the first line that it prints.
    pub(crate) fn start(words: &[&str], data: &Path) -> Result<(Self, String)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(words).arg(data).stdin(Stdio::null()).stdout(Stdio::piped());
        if std::env::var_os("HEADWATER_LOG").is_none() {
            command.env("HEADWATER_LOG", "warn");
        }
        let mut child = command.spawn()?;
        let output = child.stdout.take().ok_or("a child without output")?;
        let mut process = Self { child, _output: BufReader::new(output) };
        let mut line = String::new();
        process._output.read_line(&mut line)?;
        if line.is_empty() {
            return Err(format!("`{}` ended at once", words.join(" ")).into());
        }
        Ok((process, line.trim_end().to_owned()))
    }

    fn stop(mut self) -> Result<bool> {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM)?;
        Ok(self.child.wait()?.success())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // Its data is scratch: nobody needs an orderly end.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

/// A broker that runs.
pub(crate) struct Broker {
    process: ChildProcess,
    context: PathBuf,
    admin: String,
}

impl Broker {
    /// Starts a broker on embedded defaults with its data in `data`.
    pub(crate) fn start(data: &Path) -> Result<Self> {
        let words = ["dev", "--format", "json", "--port", "0", "--admin-port", "0", "--data"];
        let (process, announced) = ChildProcess::start(&words, data)?;
        let announced: Value = serde_json::from_str(&announced)?;
        let text = |name: &str| announced[name].as_str().map(str::to_owned).ok_or(format!("no {name} is announced"));
        Ok(Self { process, context: text("context")?.into(), admin: text("admin")? })
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// SIGTERM, and waits for the end. Whether it stopped in order.
    pub(crate) fn stop(self) -> Result<bool> {
        self.process.stop()
    }

    pub(crate) async fn connect(&self) -> Result<Client> {
        Ok(Client::connect(Context::load(&self.context)?.client_config()).await?)
    }

    /// A counter of the admin server's metrics; 0 before it has counted anything.
    pub(crate) fn counter(&self, name: &str) -> Result<u64> {
        let mut connection = TcpStream::connect(&self.admin)?;
        write!(connection, "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.admin)?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.map_or(Ok(0), str::parse)?)
    }
}

/// Creates a topic.
pub(crate) async fn create_topic(
    client: &Client,
    name: &str,
    partitions: u32,
    settings: &[(&str, &str)],
) -> Result<()> {
    let topic = NewTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        replication_factor: None,
        settings: settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
    };
    for created in client.admin().create_topics(vec![topic], false).await? {
        created?;
    }
    Ok(())
}
