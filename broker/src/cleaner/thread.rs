//! The thread that cleans one partition after the other, the dirtiest first.

use super::changelog::ByCommitKey;
use super::clean::{CleaningSetup, PartitionCleanError, clean, policy_of};
use super::pace::Pace;
use crate::clock::unix_time_ms;
use crate::config::LogsConfig;
use crate::metrics as names;
use crate::partition::{PartitionHandle, Partitions};
use headwater_core::cluster::KeyExtractor;
use headwater_core::replica::Cleanable;
use headwater_log::cleaner::{ByRecordKey, ClassifierIdentity, CleanError, CleaningReport, RecordClassifier};
use headwater_protocol::ids::TopicPartition;
use headwater_protocol::messages::log::CleaningDescription;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often somebody who waits looks whether the broker stops.
const STOP_CHECK: Duration = Duration::from_millis(100);

/// Where key extractors come from.
pub(crate) trait Classifiers: Send + 'static {
    /// Who a key extractor is: its module's bytes and its settings.
    ///
    /// # Errors
    /// Why there is none, for an operator.
    fn identity(&self, extractor: &KeyExtractor) -> Result<ClassifierIdentity, String>;

    /// The extractor, ready.
    ///
    /// # Errors
    /// As [`Self::identity`]; also of its `init`.
    fn open(&self, extractor: &KeyExtractor) -> Result<Box<dyn RecordClassifier>, String>;
}

/// The running thread; it ends when this is dropped.
pub(crate) struct CleanerThread {
    /// Dropped to end it.
    stop: Option<Sender<()>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl CleanerThread {
    /// Looks as often as `config` says.
    ///
    /// # Errors
    /// The thread can't be started.
    pub(crate) fn start(
        partitions: Arc<Partitions>,
        config: &LogsConfig,
        classifiers: Box<dyn Classifiers>,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let mut cleaner = Cleaner {
            partitions,
            classifiers,
            period: Duration::from_secs(config.cleaner_check_seconds),
            bytes_per_second: config.cleaner_bytes_per_second_max,
            dedupe_bytes_max: config.cleaner_dedupe_bytes_max,
            seed: uuid::Uuid::new_v4().as_u64_pair().0,
            stopping: Arc::clone(&stopping),
            stopped: BTreeMap::new(),
        };
        let run = move || cleaner.look_again_and_again(&stopped);
        let thread = std::thread::Builder::new()
            .name("cleaner".to_owned())
            .stack_size(headwater_wasm_host::limits::GUEST_THREAD_STACK_BYTES)
            .spawn(run)?;
        Ok(Self { stop: Some(stop), stopping, thread: Some(thread) })
    }
}

impl Drop for CleanerThread {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        drop(self.stop.take());
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the cleaner thread panicked: this broker has a bug");
        }
    }
}

struct Cleaner {
    partitions: Arc<Partitions>,
    classifiers: Box<dyn Classifiers>,
    period: Duration,
    bytes_per_second: u64,
    dedupe_bytes_max: usize,
    seed: u64,
    stopping: Arc<AtomicBool>,
    /// Partitions whose cleaning stopped, by which extractor (`None`: none could be had), and why.
    stopped: BTreeMap<TopicPartition, (Option<ClassifierIdentity>, String)>,
}

/// A partition that should be cleaned.
struct Due {
    handle: Arc<PartitionHandle>,
    dirty_ratio: f64,
}

impl Cleaner {
    fn look_again_and_again(&mut self, stopped: &Receiver<()>) {
        while stopped.recv_timeout(self.period) == Err(RecvTimeoutError::Timeout) {
            let mut due = self.look();
            due.sort_by(|a, b| b.dirty_ratio.total_cmp(&a.dirty_ratio));
            for Due { handle, .. } in due {
                if self.stopping.load(Ordering::Acquire) {
                    return;
                }
                self.clean(&handle);
            }
            metrics::gauge!(names::CLEANER_STOPPED).set(self.stopped.len() as f64);
        }
    }

    /// The partitions that are due.
    fn look(&mut self) -> Vec<Due> {
        let mut due = Vec::new();
        let mut dirty_ratio_max = 0_f64;
        let handles = self.partitions.all();
        self.stopped.retain(|id, _| handles.iter().any(|handle| handle.view().id == *id));
        for handle in handles.into_iter().filter(|handle| handle.settings().cleanup_policy.compact) {
            let Some(identity) = self.identity(&handle) else { continue };
            let (view, policy) = (handle.view(), policy_of(&handle.settings()));
            let looked = view.reader().cleaner().look(&policy, identity, view.high_watermark(), unix_time_ms());
            match looked {
                Ok((standing, is_due)) => {
                    let dirty_ratio = standing.dirty_ratio();
                    dirty_ratio_max = dirty_ratio_max.max(dirty_ratio);
                    if is_due {
                        due.push(Due { handle, dirty_ratio });
                    }
                }
                Err(error) => {
                    handle.compaction().delayed(&error.to_string());
                    tracing::warn!(topic = %view.topic_name, partition = %view.id, %error, "the cleaner can't look");
                }
            }
        }
        metrics::gauge!(names::CLEANER_DIRTY_RATIO).set(dirty_ratio_max);
        due
    }

    /// Who judges a partition's records, unless its cleaning has stopped for that.
    fn identity(&mut self, handle: &PartitionHandle) -> Option<ClassifierIdentity> {
        let id = handle.view().id;
        let identity = match &handle.settings().compaction.key_extractor {
            _ if handle.is_changelog() => Ok(ByCommitKey.identity()),
            None => Ok(ByRecordKey.identity()),
            Some(extractor) => self.classifiers.identity(extractor),
        };
        match identity {
            Ok(identity) if self.stopped.get(&id).is_some_and(|(by, _)| *by == Some(identity)) => None,
            Ok(identity) => {
                if self.stopped.remove(&id).is_some() {
                    handle.compaction().goes_on();
                }
                Some(identity)
            }
            Err(reason) => {
                self.stop(handle, None, reason);
                None
            }
        }
    }

    /// Notes that a partition is not cleaned any more, and says so once.
    fn stop(&mut self, handle: &PartitionHandle, by: Option<ClassifierIdentity>, reason: String) {
        let view = handle.view();
        if self.stopped.get(&view.id).is_none_or(|(_, before)| *before != reason) {
            let (topic, partition) = (view.topic_name.as_str(), view.id);
            tracing::error!(topic, %partition, reason, "compaction stopped; nothing is lost");
            metrics::counter!(names::CLEANER_FAILURES, "topic" => view.topic_name.clone()).increment(1);
        }
        handle.compaction().stopped(&reason);
        self.stopped.insert(view.id, (by, reason));
    }

    fn clean(&mut self, handle: &PartitionHandle) {
        let Some(cleanable) = self.cleanable(handle) else { return };
        let opened = match &handle.settings().compaction.key_extractor {
            _ if handle.is_changelog() => Ok(Box::new(ByCommitKey) as Box<dyn RecordClassifier>),
            None => Ok(Box::new(ByRecordKey) as Box<dyn RecordClassifier>),
            Some(extractor) => self.classifiers.open(extractor),
        };
        let mut classifier = match opened {
            Ok(classifier) => classifier,
            Err(reason) => return self.stop(handle, None, reason),
        };
        let setup = CleaningSetup { dedupe_bytes_max: self.dedupe_bytes_max, seed: self.seed, now_ms: unix_time_ms() };
        let stopping = Arc::clone(&self.stopping);
        let mut pace = Pace::new(self.bytes_per_second, &stopping);
        let mut pace = |bytes| {
            metrics::counter!(names::CLEANER_BYTES).increment(bytes);
            pace.wait(bytes)
        };
        let (view, begun) = (handle.view(), Instant::now());
        match clean(handle, &cleanable, setup, classifier.as_mut(), &mut pace) {
            Ok(report) if report.passes > 0 => {
                handle.compaction().cleaned(Some(description(&report, begun.elapsed())));
                let removed = report.bytes_before.saturating_sub(report.bytes_after);
                metrics::counter!(names::CLEANER_CLEANINGS).increment(1);
                metrics::counter!(names::CLEANER_REMOVED_BYTES).increment(removed);
                let (before, after, passes) = (report.bytes_before, report.bytes_after, report.passes);
                tracing::info!(topic = %view.topic_name, partition = %view.id, before, after, passes, "compacted");
            }
            Ok(_) => handle.compaction().cleaned(None),
            Err(PartitionCleanError::Clean(CleanError::Interrupted(_))) => {}
            Err(PartitionCleanError::Clean(error @ CleanError::Classifier { .. })) => {
                self.stop(handle, Some(classifier.identity()), error.to_string());
            }
            Err(error) => {
                handle.compaction().delayed(&error.to_string());
                tracing::warn!(topic = %view.topic_name, partition = %view.id, %error, "compaction has to wait");
            }
        }
    }

    /// What may be cleaned; waits until that is durable.
    fn cleanable(&self, handle: &PartitionHandle) -> Option<Cleanable> {
        let (reply, answer) = mpsc::channel();
        handle.ask_cleanable(Box::new(move |cleanable| drop(reply.send(cleanable))));
        loop {
            match answer.recv_timeout(STOP_CHECK) {
                Ok(cleanable) => return cleanable.ok(),
                Err(RecvTimeoutError::Timeout) if !self.stopping.load(Ordering::Acquire) => {}
                Err(_) => return None,
            }
        }
    }
}

fn description(report: &CleaningReport, took: Duration) -> CleaningDescription {
    CleaningDescription {
        ended_at: unix_time_ms(),
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        passes: report.passes,
        bytes_before: report.bytes_before,
        bytes_after: report.bytes_after,
    }
}
