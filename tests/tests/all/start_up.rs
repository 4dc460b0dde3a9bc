//! Starts that must be refused, and what a refusal leaves behind: nothing.

use crate::broker_process::{Broker, headwater_binary};
use crate::components::component;
use std::process::{Command, Stdio};

/// What a development broker on the data of `broker`, which is down, says instead of starting.
fn refusal(broker: &Broker, more: &[&str]) -> String {
    let mut command = Command::new(headwater_binary());
    command.args(["dev", "--port", "0", "--data"]).arg(broker.data()).args(more).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "it started");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_data_directory_whose_logs_are_gone_is_no_new_one() {
    // covers LOG-10
    let mut broker = Broker::start();
    broker.run(&["topic", "create", "t"]);
    broker.run_with_input(&["produce", "t"], "kept\n");
    broker.stop();
    let (logs, elsewhere) = (broker.data().join("logs"), broker.scratch().join("elsewhere"));
    std::fs::rename(&logs, &elsewhere).unwrap();
    for _ in 0..2 {
        let error = refusal(&broker, &["--admin-port", "0"]);
        assert!(error.contains("metadata log is gone") && error.contains("identity.checkpoint"), "{error}");
    }
    std::fs::remove_dir_all(&logs).unwrap();
    std::fs::rename(&elsewhere, &logs).unwrap();
    broker.restart();
    assert_eq!(broker.run(&["consume", "t", "--from-beginning", "--max-messages", "1"]), "kept\n");
    broker.stop();
    let identity = broker.data().join("identity.checkpoint");
    std::fs::rename(&identity, &elsewhere).unwrap();
    let error = refusal(&broker, &["--admin-port", "0"]);
    assert!(error.contains("identity file is missing"), "{error}");
}

#[test]
fn an_admin_port_that_is_taken_is_named_and_the_data_are_free_again() {
    let mut broker = Broker::start();
    broker.stop();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let error = refusal(&broker, &["--admin-port", &port]);
    assert!(error.contains(&port), "{error}");
    broker.restart();
}

#[test]
fn a_module_whose_name_is_refused_is_not_stored() {
    let broker = Broker::start();
    let module = component("identity");
    let module = module.to_str().unwrap();
    let error = broker.run_failing(&["module", "upload", "no/name", module]).1;
    assert!(error.contains("name"), "{error}");
    let stored = std::fs::read_dir(broker.data().join("modules")).unwrap().count();
    assert_eq!(stored, 0, "its bytes are not kept");
}

#[test]
fn a_changelog_counts_among_the_partitions_that_a_broker_may_have() {
    let mut broker = Broker::start();
    broker.run(&["topic", "create", "in", "--partitions", "3"]);
    broker.run(&["topic", "create", "out"]);
    broker.run(&["module", "upload", "identity", component("identity").to_str().unwrap()]);
    broker.stop();
    broker.restart_with_configuration(&[("partitions_max = 10000", "partitions_max = 6")]);
    let deploy = ["processor", "deploy", "p", "--module", "identity", "--input", "in", "--output", "out"];
    let error = broker.run_failing(&deploy).1;
    assert!(error.contains("topics.partitions_max is 6"), "{error}");
    broker.run(&["topic", "delete", "out"]);
    let three = broker.run_failing(&["topic", "create", "more", "--partitions", "4"]).1;
    assert!(three.contains("topics.partitions_max is 6"), "{three}");
}
