//! Finding the cluster: the context file that `headwater dev` writes says where it is and who we are.

use crate::arguments::GlobalOptions;
use crate::error::CliError;
use headwater_client::{Client, Context};
use std::path::PathBuf;

/// Name of the context file in a data directory.
pub(crate) const CONTEXT_FILE: &str = "context.toml";
/// Data directory of `headwater dev` when none is named.
pub(crate) const DEFAULT_DATA: &str = "headwater-data";

/// Connects to the cluster that the options, the environment or the directory name.
pub(crate) async fn connect(options: &GlobalOptions) -> Result<Client, CliError> {
    let context = load(options, &Environment::of_process())?;
    let mut config = context.client_config();
    config.client_name = concat!("headwater-cli/", env!("CARGO_PKG_VERSION")).to_owned();
    Ok(Client::connect(config).await?)
}

fn load(options: &GlobalOptions, environment: &Environment) -> Result<Context, CliError> {
    let path = match options.context.as_ref().or(environment.context.as_ref()) {
        Some(named) => named.clone(),
        None => {
            let places = places(environment);
            let found = places.iter().find(|place| place.exists()).cloned();
            found.ok_or(CliError::NoContext { looked: places })?
        }
    };
    let mut context = Context::load(&path)?;
    if !options.broker.is_empty() {
        context.brokers.clone_from(&options.broker);
    }
    Ok(context)
}

/// What of the environment says where configuration lies. A variable that is empty says nothing.
struct Environment {
    context: Option<PathBuf>,
    directory: PathBuf,
    config_home: Option<PathBuf>,
    home: Option<PathBuf>,
}

impl Environment {
    fn of_process() -> Self {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            context: path("HEADWATER_CONTEXT"),
            directory: PathBuf::new(),
            config_home: path("XDG_CONFIG_HOME"),
            home: path("HOME"),
        }
    }
}

/// Where a context file is looked for when none is named, in order.
fn places(environment: &Environment) -> Vec<PathBuf> {
    let config_home =
        environment.config_home.clone().or_else(|| environment.home.as_ref().map(|home| home.join(".config")));
    let mut places = vec![environment.directory.join(DEFAULT_DATA).join(CONTEXT_FILE)];
    places.extend(config_home.map(|directory| directory.join("headwater").join(CONTEXT_FILE)));
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn options(context: Option<PathBuf>, broker: &[&str]) -> GlobalOptions {
        let broker = broker.iter().map(|address| (*address).to_owned()).collect();
        GlobalOptions { broker, context, format: crate::output::Format::Text }
    }

    fn store(path: &Path, broker: &str) {
        let certificate = |name: &str| path.with_file_name(name);
        Context {
            brokers: vec![broker.to_owned()],
            ca: certificate("ca.pem"),
            certificate: certificate("client.pem"),
            key: certificate("client.key"),
        }
        .store(path)
        .unwrap();
    }

    fn environment(root: &Path) -> Environment {
        Environment { context: None, directory: root.join("here"), config_home: None, home: Some(root.join("home")) }
    }

    #[test]
    fn the_option_wins_then_the_variable_then_the_directory_then_the_home_and_an_address_wins_over_all() {
        let root = tempfile::tempdir().unwrap();
        let mut environment = environment(root.path());
        let [option, variable] = ["option", "variable"].map(|name| root.path().join(name));
        let [here, home] = ["here/headwater-data", "home/.config/headwater"].map(|name| root.path().join(name));
        for (path, broker) in [(&option, "option:1"), (&variable, "variable:1")] {
            store(path, broker);
        }
        for (directory, broker) in [(&home, "home:1"), (&here, "here:1")] {
            std::fs::create_dir_all(directory).unwrap();
            store(&directory.join(CONTEXT_FILE), broker);
            assert_eq!(load(&options(None, &[]), &environment).unwrap().brokers, [broker]);
        }
        environment.context = Some(variable);
        assert_eq!(load(&options(None, &[]), &environment).unwrap().brokers, ["variable:1"]);
        assert_eq!(load(&options(Some(option.clone()), &[]), &environment).unwrap().brokers, ["option:1"]);
        assert_eq!(load(&options(Some(option), &["other:2"]), &environment).unwrap().brokers, ["other:2"]);
        environment.config_home = Some("/etc/xdg".into());
        assert_eq!(places(&environment)[1], Path::new("/etc/xdg/headwater/context.toml"));
    }

    #[test]
    fn without_a_context_the_error_says_where_it_was_looked_for_and_the_remedy() {
        let root = tempfile::tempdir().unwrap();
        let error = load(&options(None, &[]), &environment(root.path())).unwrap_err().to_string();
        assert!(error.contains("run `headwater dev`") && error.contains("HEADWATER_CONTEXT"), "{error}");
        assert!(error.contains("here/headwater-data/context.toml"), "{error}");
        assert!(error.contains("home/.config/headwater/context.toml"), "{error}");
    }
}
