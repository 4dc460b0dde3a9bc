//! A broker of the test's own: `headwater dev` as a child process on a port that was free.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take before the test gives up: a deadline against hanging, not a measurement.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// The product with fail points compiled in.
pub(crate) fn headwater_binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_headwater-under-test"))
}

/// A running or killed broker and its data.
pub(crate) struct Broker {
    child: Option<Child>,
    directory: tempfile::TempDir,
    /// The same for its whole life, so that clients find it again after a kill.
    port: u16,
    environment: Vec<(String, String)>,
    /// Soft and hard limit of open files that it starts with; `None`: those of the test.
    open_files: Option<(u32, u32)>,
}

/// A port that is free, and that no client is given by the system while the broker is down: it lies below those.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 100) as u16 * 100;
    let mut ports = (0..100).map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed) % 100);
    ports.find(|port| std::net::UdpSocket::bind(("127.0.0.1", *port)).is_ok()).expect("a hundred ports are taken")
}

impl Broker {
    /// Starts a broker on empty data.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a broker on empty data with extra environment variables (fail points).
    pub(crate) fn start_with(environment: &[(&str, &str)]) -> Self {
        let mut broker = Self::prepare();
        broker.restart_with(environment);
        broker
    }

    /// Starts a broker on empty data that finds these limits of open files, now and when it is started again.
    pub(crate) fn start_with_open_files(soft: u32, hard: u32) -> Self {
        let mut broker = Self::prepare();
        broker.open_files = Some((soft, hard));
        broker.restart();
        broker
    }

    /// Starts a broker on the data that `fill` puts into the directory it is given.
    pub(crate) fn on(fill: impl FnOnce(&Path)) -> Self {
        let mut broker = Self::prepare();
        fill(&broker.data());
        broker.restart();
        broker
    }

    fn prepare() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Free now, and most likely still when the broker takes it.
        let port = free_port();
        Self { child: None, directory, port, environment: Vec::new(), open_files: None }
    }

    /// Starts it again on its data, without fail points.
    pub(crate) fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// Starts it again on its data with these environment variables.
    pub(crate) fn restart_with(&mut self, environment: &[(&str, &str)]) {
        self.begin_with(environment);
        let deadline = Instant::now() + PATIENCE;
        while !self.context().exists() {
            assert!(!self.has_ended(), "the broker ended:\n{}", self.broker_output());
            assert!(Instant::now() < deadline, "the broker does not start:\n{}", self.broker_output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether its process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// As [`Self::restart_with`], but does not wait until it serves: a fail point may kill it before.
    pub(crate) fn begin_with(&mut self, environment: &[(&str, &str)]) {
        assert!(self.child.is_none(), "the broker runs already");
        self.environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        if self.context().exists() {
            std::fs::remove_file(self.context()).unwrap();
        }
        let log = std::fs::File::options().create(true).append(true).open(self.broker_log()).unwrap();
        let mut command = match self.open_files {
            None => Command::new(headwater_binary()),
            Some((soft, hard)) => {
                let mut shell = Command::new("sh");
                let limited = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
                shell.arg("-c").arg(limited).arg(headwater_binary());
                shell
            }
        };
        command.args(["dev", "--port", &self.port.to_string(), "--admin-port", "0", "--data"]).arg(self.data());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Starts `headwater broker` on its data and certificates, with the sample configuration and these (old, new) texts
    /// replaced in it. `headwater dev` must have run on the data.
    pub(crate) fn restart_with_configuration(&mut self, replacements: &[(&str, &str)]) {
        assert!(self.child.is_none(), "the broker runs already");
        let sample = self.command(&["broker", "--print-sample-config"]).output().unwrap().stdout;
        let data = self.data().display().to_string();
        let mut config = String::from_utf8(sample)
            .unwrap()
            .replace("data_dir = \"headwater-data\"", &format!("data_dir = {data:?}"))
            .replace("\"tls/", &format!("\"{data}/tls/"))
            .replace("127.0.0.1:9092", &format!("127.0.0.1:{}", self.port))
            .replace("127.0.0.1:9644", "127.0.0.1:0");
        for (old, new) in replacements {
            assert!(config.contains(old), "the sample configuration has no {old:?}");
            config = config.replace(old, new);
        }
        let path = self.scratch().join("broker.toml");
        std::fs::write(&path, config).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(self.broker_log()).unwrap();
        let mut command = Command::new(headwater_binary());
        command.args(["broker", "--config"]).arg(path).stdin(Stdio::null());
        self.child = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        self.wait_until("it serves", || self.command(&["topic", "list"]).output().unwrap().status.success());
    }

    /// The broker's data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A directory for files of the test.
    pub(crate) fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// The context file that the broker wrote.
    pub(crate) fn context(&self) -> PathBuf {
        self.data().join("context.toml")
    }

    fn broker_log(&self) -> PathBuf {
        self.directory.path().join("broker.log")
    }

    /// What the broker printed so far.
    pub(crate) fn broker_output(&self) -> String {
        std::fs::read_to_string(self.broker_log()).unwrap_or_default()
    }

    /// What its admin server answers to `GET /metrics`.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        self.wait_until("the admin server answers", || {
            // The last one announced: an earlier run's port is closed.
            let output = self.broker_output();
            let announced = output.rmatch_indices("http://").next().map(|(start, scheme)| start + scheme.len());
            let Some((address, _)) = announced.and_then(|start| output[start..].split_once("/metrics")) else {
                return false;
            };
            text.clear();
            std::net::TcpStream::connect(address).is_ok_and(|mut connection| {
                connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").is_ok()
                    && connection.read_to_string(&mut text).is_ok()
                    && text.contains(" 200 ")
            })
        });
        text
    }

    /// The file of this name in the only partition that has one, the metadata log left out.
    pub(crate) fn segment(&self, name: &str) -> PathBuf {
        let directories = std::fs::read_dir(self.data().join("logs")).unwrap().flatten();
        let partitions = directories.map(|directory| directory.path()).filter(|path| !path.ends_with("metadata"));
        let mut found = partitions.map(|partition| partition.join(name)).filter(|file| file.exists());
        let segment = found.next().unwrap();
        assert_eq!(found.next(), None, "two partitions have a {name}");
        segment
    }

    /// The broker's process id.
    pub(crate) fn process_id(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits until the broker has ended by itself (a fail point).
    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                return status;
            }
            assert!(Instant::now() < deadline, "the broker does not end:\n{}", self.broker_output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM; fails unless the broker stops with exit code 0.
    pub(crate) fn stop(&mut self) {
        signal(self.process_id(), "TERM");
        let status = self.wait_for_end();
        assert!(status.success(), "an orderly stop ended with {status}:\n{}", self.broker_output());
    }

    /// A `headwater` command against this broker, not yet started.
    pub(crate) fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(headwater_binary());
        command.args(arguments).env("HEADWATER_CONTEXT", self.context()).current_dir(self.scratch());
        command
    }

    /// Runs a command; fails unless it succeeds; returns its standard output.
    pub(crate) fn run(&self, arguments: &[impl AsRef<OsStr>]) -> String {
        self.run_with_input(arguments, "")
    }

    /// Runs a command with this standard input; fails unless it succeeds; returns its standard output.
    pub(crate) fn run_with_input(&self, arguments: &[impl AsRef<OsStr>], input: &str) -> String {
        let output = finish(self.command(arguments), input);
        assert!(output.status.success(), "{}\n{}", failure(&output, arguments), self.broker_output());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail; returns its exit code and standard error.
    pub(crate) fn run_failing(&self, arguments: &[impl AsRef<OsStr>]) -> (i32, String) {
        self.run_failing_with_input(arguments, "")
    }

    /// As [`Self::run_failing`], with `input` on its standard input.
    pub(crate) fn run_failing_with_input(&self, arguments: &[impl AsRef<OsStr>], input: &str) -> (i32, String) {
        let output = finish(self.command(arguments), input);
        assert!(!output.status.success(), "succeeded: {}", failure(&output, arguments));
        (output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).unwrap())
    }

    /// Runs a command with `--format json` and parses what it printed.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let text = self.run(&[arguments, &["--format", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?} printed no JSON: {error}\n{text}"))
    }

    /// Asks again until `done` says yes.
    pub(crate) fn wait_until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < deadline, "never came: {what}\n{}", self.broker_output());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// Sends a signal by name.
pub(crate) fn signal(process: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().unwrap();
    assert!(status.success());
}

/// Runs a command to its end with this standard input; fails when it hangs.
pub(crate) fn finish(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut stdin, mut stdout, mut stderr) =
        (child.stdin.take().unwrap(), child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let input = input.as_bytes().to_vec();
    // A command that fails early closes its input: that is its right.
    let writer = std::thread::spawn(move || stdin.write_all(&input).is_ok());
    let read_out = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    let read_error = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("hangs: {command:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    writer.join().unwrap();
    Output { status, stdout: read_out.join().unwrap().unwrap(), stderr: read_error.join().unwrap().unwrap() }
}

fn failure(output: &Output, arguments: &[impl AsRef<OsStr>]) -> String {
    let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy().into_owned()).collect();
    format!(
        "headwater {}: {}\n{}{}",
        words.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
