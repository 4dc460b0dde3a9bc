//! The words of the command line.

use crate::Result;
use std::path::PathBuf;
use tempfile::TempDir;

pub(crate) const USAGE: &str = "\
Usage: headwater-bench [--quick] [--format text|json] [--stream-mb N] [--data DIR] [--full] [--plot FILE] [BENCH]
  --quick        small sizes and few rounds: shows that everything runs, its figures mean little
  --full         the log benchmark's log grows to 10 GiB, not 1
  --plot FILE    where the log benchmark draws what it found, as SVG
  --stream-mb N  megabytes of text that the memory benchmark streams
  --data DIR     directory for scratch data, on the disk to be measured; else beside the components
HEADWATER_COMPONENTS names the directory of the built components (cargo xtask bench sets it).";

/// What to measure, and how.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Options {
    /// Small and few.
    pub(crate) quick: bool,
    /// One JSON document in place of the table.
    pub(crate) json: bool,
    /// Only benchmarks whose names contain this.
    pub(crate) filter: Option<String>,
    /// Large, where that takes long.
    pub(crate) full: bool,
    /// Where to draw.
    pub(crate) plot: Option<PathBuf>,
    /// Megabytes of text for the memory benchmark.
    stream_mb: Option<u64>,
    data: Option<PathBuf>,
}

/// Why the words make no sense.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Usage(pub(crate) String);

impl Options {
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> std::result::Result<Self, Usage> {
        let mut options = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| Usage(format!("{word} needs a value")));
            match word.as_str() {
                "--full" => options.full = true,
                "--plot" => options.plot = Some(value()?.into()),
                "--quick" => options.quick = true,
                "--format" => {
                    options.json = match value()?.as_str() {
                        "json" => true,
                        "text" => false,
                        other => return Err(Usage(format!("--format is text or json, not {other:?}"))),
                    }
                }
                "--stream-mb" => {
                    let number = value()?;
                    let parsed = number.parse().ok().filter(|mb| *mb > 0);
                    options.stream_mb =
                        Some(parsed.ok_or_else(|| Usage(format!("--stream-mb: {number:?} is no number from 1")))?);
                }
                "--data" => options.data = Some(value()?.into()),
                "--help" | "-h" => return Err(Usage("Ratios of Headwater against named baselines.".to_owned())),
                flag if flag.starts_with('-') => return Err(Usage(format!("there is no option {flag:?}"))),
                _ if options.filter.is_some() => return Err(Usage(format!("one filter at most: {word:?}"))),
                _ => options.filter = Some(word),
            }
        }
        Ok(options)
    }

    /// Whether a benchmark of this name is wanted.
    pub(crate) fn chooses(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()))
    }

    /// One size or number for a real run, another for a quick one.
    pub(crate) fn pick<T>(&self, real: T, quick: T) -> T {
        if self.quick { quick } else { real }
    }

    /// Bytes of text for the memory benchmark.
    pub(crate) fn stream_bytes(&self) -> u64 {
        self.stream_mb.unwrap_or(self.pick(1000, 50)) * 1_000_000
    }

    /// Where built components lie.
    pub(crate) fn components(&self) -> Result<PathBuf> {
        let directory = std::env::var_os("HEADWATER_COMPONENTS");
        let directory = directory.ok_or("HEADWATER_COMPONENTS is not set: run `cargo xtask bench`")?;
        Ok(directory.into())
    }

    /// A directory for scratch data, removed when dropped. Not in `/tmp`, which may be memory.
    pub(crate) fn scratch(&self) -> Result<TempDir> {
        let beside_components = || self.components().ok()?.parent().map(std::path::Path::to_path_buf);
        let place = self.data.clone().or_else(beside_components).unwrap_or_else(std::env::temp_dir);
        let made = tempfile::Builder::new().prefix("headwater-bench-").tempdir_in(&place);
        made.map_err(|error| format!("no scratch directory in {}: {error}", place.display()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> std::result::Result<Options, Usage> {
        Options::parse(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn words_are_understood_or_refused_by_name() {
        let options = parse(&["--quick", "prod", "--format", "json", "--stream-mb", "7"]).unwrap();
        assert!(options.quick && options.json && options.chooses("produce") && !options.chooses("flush"));
        assert_eq!(options.stream_bytes(), 7_000_000);
        assert_eq!(parse(&["--quick"]).unwrap().stream_bytes(), 50_000_000);
        assert!(parse(&[]).unwrap().chooses("flush"));
        let options = parse(&["log", "--full", "--plot", "a.svg"]).unwrap();
        assert_eq!((options.full, options.plot), (true, Some("a.svg".into())));
        for (words, culprit) in [
            (&["--fast"][..], "--fast"),
            (&["a", "b"], "\"b\""),
            (&["--format"], "--format"),
            (&["--format", "xml"], "xml"),
            (&["--stream-mb", "0"], "\"0\""),
        ] {
            let Usage(problem) = parse(words).unwrap_err();
            assert!(problem.contains(culprit), "{problem}");
        }
    }
}
