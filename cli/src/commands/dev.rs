//! `headwater dev`.

use crate::commands::serve::{serve, start_broker};
use crate::context::{CONTEXT_FILE, DEFAULT_DATA};
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::output::{Format, pairs};
use clap::Args;
use headwater_broker::config::{LogsConfig, TlsConfig};
use headwater_broker::{BrokerConfig, make_data_directory};
use headwater_client::Context;
use headwater_transport::{DevIdentities, create_dev_identities};
use serde_json::json;
use std::fs::{File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// Admin port when none is named.
const ADMIN_PORT: u16 = 9644;

/// Words of `headwater dev`.
#[derive(Debug, Args)]
#[command(after_help = "\
Listens on 127.0.0.1 only. On first start it makes a CA and certificates, for the
broker and for the command line, in DIR/tls. Each start writes DIR/context.toml,
which tells the other commands where the broker is.

Examples:
  headwater dev
  headwater dev --data /tmp/try --port 9192")]
pub(crate) struct DevArguments {
    /// Directory of data, certificates and context file; made when it isn't there.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA)]
    data: PathBuf,
    /// UDP port to listen on; 0 lets the system choose.
    #[arg(long, default_value_t = 9092)]
    port: u16,
    /// TCP port of the admin server (metrics, health); 0 lets the system choose [default: 9644 if it is free].
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
}

pub(crate) async fn run(arguments: &DevArguments, format: Format) -> Result<(), CliError> {
    let interrupt = Interrupt::listen()?;
    // Absolute, because log lines and `log-dirs` name it to people who are elsewhere.
    let data = &std::path::absolute(&arguments.data).map_err(CliError::io("find the working directory"))?;
    make_data_directory(data).map_err(CliError::io(format!("make the data directory {}", data.display())))?;
    let _lock = lock(data)?;
    let identities = create_dev_identities(&data.join("tls"))?;
    let broker = start_broker(config(arguments, data, &identities)).await?;

    let address = broker.address();
    let context = Context {
        brokers: vec![address.to_string()],
        ca: identities.client.ca.clone(),
        certificate: identities.client.certificate.clone(),
        key: identities.client.key.clone(),
    };
    let path = data.join(CONTEXT_FILE);
    // The broker is up: whoever waits for it may wait for this file.
    context.store(&path)?;
    let is_found = arguments.data == Path::new(DEFAULT_DATA);
    let announced = announce(format, is_found, &path, address, broker.admin_address());
    let served = serve(broker, interrupt).await;
    announced.or_else(ignore_closed_output)?;
    served
}

/// One `headwater dev` a directory: two would make certificates at the same time.
fn lock(data: &Path) -> Result<File, CliError> {
    let path = data.join("dev.lock");
    let what = || format!("lock {}", path.display());
    let file = File::create(&path).map_err(CliError::io(what()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let text = format!("another `headwater dev` runs on {}: stop it, or name another --data", data.display());
            Err(CliError::Io { what: what(), source: io::Error::other(text) })
        }
        Err(TryLockError::Error(source)) => Err(CliError::Io { what: what(), source }),
    }
}

fn config(arguments: &DevArguments, data: &Path, identities: &DevIdentities) -> BrokerConfig {
    let loopback = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let admin_port = arguments.admin_port.unwrap_or_else(|| {
        // The usual port if nobody has it: a second development broker shall not fail for its metrics.
        let is_free = TcpListener::bind(loopback(ADMIN_PORT)).is_ok();
        if is_free { ADMIN_PORT } else { 0 }
    });
    let files = &identities.broker;
    BrokerConfig {
        data_dir: data.to_owned(),
        listen: loopback(arguments.port),
        admin_listen: loopback(admin_port).to_string(),
        tls: TlsConfig {
            ca: files.ca.clone(),
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            ..TlsConfig::default()
        },
        // Whoever tries retention out shall see it.
        log: LogsConfig { retention_check_seconds: 5, cleaner_check_seconds: 2, ..LogsConfig::default() },
        ..BrokerConfig::default()
    }
}

fn announce(
    format: Format,
    context_is_found: bool,
    context: &Path,
    address: SocketAddr,
    admin: Option<SocketAddr>,
) -> Result<(), CliError> {
    let admin = admin.map(|admin| admin.to_string());
    let data = context.parent().unwrap_or(context);
    let object = json!({
        "broker": address.to_string(),
        "admin": admin,
        "data": data.display().to_string(),
        "context": context.display().to_string(),
    });
    format.print_line(&object, || {
        let facts = pairs(&[
            ("broker", address.to_string()),
            ("admin", admin.map_or_else(String::new, |admin| format!("http://{admin}/metrics"))),
            ("data", data.display().to_string()),
        ]);
        let way_on = if context_is_found {
            "In another terminal, in this directory: headwater topic create lines".to_owned()
        } else {
            format!("In another terminal: export HEADWATER_CONTEXT={}", context.display())
        };
        format!("{facts}\n\n{way_on}\nCtrl-C stops the broker.")
    })
}

/// A broker that nobody watches goes on.
fn ignore_closed_output(error: CliError) -> Result<(), CliError> {
    match error {
        CliError::OutputClosed => Ok(()),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(data: &Path, admin_port: Option<u16>) -> DevArguments {
        DevArguments { data: data.to_owned(), port: 0, admin_port }
    }

    #[test]
    fn a_second_one_on_the_same_directory_is_told_so() {
        let data = tempfile::tempdir().unwrap();
        let first = lock(data.path()).unwrap();
        let error = lock(data.path()).unwrap_err().to_string();
        assert!(error.contains("another `headwater dev`") && error.contains("--data"), "{error}");
        drop(first);
        lock(data.path()).unwrap();
    }

    #[test]
    fn the_configuration_is_valid_on_loopback_and_gives_way_on_the_admin_port() {
        let data = tempfile::tempdir().unwrap();
        let identities = create_dev_identities(&data.path().join("tls")).unwrap();
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, ADMIN_PORT));
        let made = config(&arguments(data.path(), None), data.path(), &identities);
        made.check().unwrap();
        assert!(made.listen.ip().is_loopback());
        assert_eq!(made.admin_listen, "127.0.0.1:0", "taken by us or by somebody else");
        assert_eq!(config(&arguments(data.path(), Some(7)), data.path(), &identities).admin_listen, "127.0.0.1:7");
    }
}
