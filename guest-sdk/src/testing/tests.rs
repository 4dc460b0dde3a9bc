use super::*;
use crate::limits::{OUTPUT_BUFFER_BYTES_MAX, STORE_CACHE_BYTES_MAX};
use crate::{Batch, Context, DueTimers, EmitError, OutRecord, Record, RecordProcessor, StateError};
use proptest::prelude::*;

/// Does what its input says: `put k v`, `delete k`, `get k`, `scan a b`, `back a b`, `set at id`, `cancel id`, `fail`,
/// `emit text`, `log text`, `big bytes`. Answers go to output 0.
struct Script {
    calls: u32,
}

impl RecordProcessor for Script {
    fn init(deployment: &Deployment) -> Result<Self, String> {
        if deployment.setting("refuse").is_some() { Err("refused".to_owned()) } else { Ok(Self { calls: 0 }) }
    }

    fn process(&mut self, record: &Record<'_>, context: &mut Context) -> Result<(), Failure> {
        self.calls += 1;
        let line = record.value_text();
        let words: Vec<&str> = line.split(' ').collect();
        let stores = &mut context.stores;
        let answer = match words[..] {
            ["put", key, value] => return Ok(stores.at(0)?.put(key.as_bytes(), value.as_bytes())?),
            ["delete", key] => return Ok(stores.at(0)?.delete(key.as_bytes())?),
            ["get", key] => stores.at(0)?.get(key.as_bytes())?.map(<[u8]>::to_vec).unwrap_or(b"none".to_vec()),
            ["scan", start, end] => joined(stores.at(0)?.scan(start.as_bytes(), end.as_bytes())?)?,
            ["back", start, end] => joined(stores.at(0)?.scan_back(start.as_bytes(), end.as_bytes())?)?,
            ["set", at, id] => return Ok(context.timers.set(at.parse().unwrap(), id.as_bytes())?),
            ["cancel", id] => return Ok(context.timers.cancel(id.as_bytes())?),
            ["big", bytes] => vec![b'x'; bytes.parse().unwrap()],
            ["calls"] => self.calls.to_string().into_bytes(),
            ["log", text] => {
                crate::info!("{text}");
                return Ok(());
            }
            ["emit", text] => text.into(),
            _ => return Err(Failure::new(&line)),
        };
        Ok(context.emit(0, OutRecord::at(record.timestamp).value(&answer))?)
    }
}

fn joined(mut scan: crate::Scan<'_>) -> Result<Vec<u8>, Failure> {
    let mut entries = Vec::new();
    while let Some((key, value)) = scan.next()? {
        entries.push(format!("{}={}", key.escape_ascii(), value.escape_ascii()));
    }
    Ok(entries.join(" ").into_bytes())
}

fn deployment() -> Deployment {
    Deployment::for_test().output("out").store("store")
}

fn runner<P: Processor>() -> TestRunner<P> {
    TestRunner::new(deployment()).unwrap()
}

fn texts<P: Processor>(runner: &mut TestRunner<P>) -> Vec<String> {
    runner.take_output(0).iter().map(|record| record.value_text().into_owned()).collect()
}

#[test]
fn reads_see_writes_of_the_call_and_of_calls_before() {
    let mut runner = runner::<Script>();
    runner.run(["put a 1", "get a", "get b", "delete a", "get a", "put b 2"]).unwrap();
    runner.run(["get a", "get b", "put b 3", "get b"]).unwrap();
    assert_eq!(texts(&mut runner), ["1", "none", "none", "none", "2", "3"]);
    assert_eq!(runner.store(0), BTreeMap::from([(b"b".to_vec(), b"3".to_vec())]));
}

#[test]
fn a_scan_sees_what_the_call_has_written() {
    let mut runner = runner::<Script>();
    runner.run(["put a 1", "put b 2", "put c 3"]).unwrap();
    runner.run(["delete b", "put d 4", "scan a ", "back a d", "scan b c", "scan c b"]).unwrap();
    assert_eq!(texts(&mut runner), ["a=1 c=3 d=4", "c=3 a=1", "", ""]);
}

#[test]
fn a_scan_turns_pages_in_both_directions() {
    let limits = TestLimits { state_answer_bytes_max: 40, ..TestLimits::default() };
    let mut runner = TestRunner::<Script>::with_limits(deployment(), limits).unwrap();
    let keys: Vec<String> = (0..20).map(|key| format!("key-{key:02}")).collect();
    runner.run(keys.iter().map(|key| TestRecord::from(&*format!("put {key} v")))).unwrap();
    runner.run(["scan key-00 key-19", "back  "]).unwrap();
    let mut expected: Vec<String> = keys.iter().map(|key| format!("{key}=v")).collect();
    let all = expected.join(" ");
    expected.reverse();
    assert_eq!(texts(&mut runner), [all.rsplit_once(' ').unwrap().0, &expected.join(" ")]);
}

#[test]
fn one_question_and_one_write_back_a_batch() {
    struct Prefetching;
    impl Processor for Prefetching {
        fn init(_: &Deployment) -> Result<Self, String> {
            Ok(Self)
        }
        fn process(&mut self, batch: &Batch<'_>, context: &mut Context) -> Result<(), Failure> {
            let store = context.stores.at(0)?;
            store.prefetch(batch.iter().filter_map(|record| record.value))?;
            for record in batch {
                let value = store.update(record.value.unwrap(), |value| value.push(b'+'))?;
                context.outputs.emit(0, OutRecord::at(0).value(value))?;
            }
            Ok(())
        }
    }
    let mut runner = runner::<Prefetching>();
    runner.run(["a", "b", "a", "c", "a"]).unwrap();
    assert_eq!(runner.host_calls(), 3); // get-many, put-many, emit
    assert_eq!(texts(&mut runner), ["+", "+", "++", "+", "+++"]);
    runner.run(["a"]).unwrap();
    assert_eq!(texts(&mut runner), ["++++"]);
    assert_eq!(runner.host_calls(), 6); // nothing is remembered from call to call
}

#[test]
fn a_prefetch_of_large_values_asks_for_fewer_at_a_time() {
    struct Sizes;
    impl Processor for Sizes {
        fn init(_: &Deployment) -> Result<Self, String> {
            Ok(Self)
        }
        fn process(&mut self, batch: &Batch<'_>, context: &mut Context) -> Result<(), Failure> {
            let store = context.stores.at(0)?;
            store.prefetch(batch.iter().filter_map(|record| record.key))?;
            for record in batch {
                let old = store.get(record.key.unwrap())?.map_or(0, <[u8]>::len);
                store.put(record.key.unwrap(), record.value.unwrap())?;
                context.outputs.emit(0, OutRecord::at(0).value(&old.to_string()))?;
            }
            Ok(())
        }
    }
    let limits = TestLimits { state_answer_bytes_max: 250, ..TestLimits::default() };
    let mut runner = TestRunner::<Sizes>::with_limits(deployment(), limits).unwrap();
    let value = "v".repeat(100);
    let records = || (0..9).map(|key| TestRecord::from((&*format!("key-{key}"), &*value)));
    runner.run(records()).unwrap();
    runner.run(records()).unwrap();
    assert_eq!(texts(&mut runner), [vec!["0"; 9], vec!["100"; 9]].concat());
    // Values that the cache has no room for are read one by one.
    let mut runner = TestRunner::<Sizes>::new(deployment()).unwrap();
    let large = "v".repeat(1 << 20);
    let records = || (0..20).map(|key| TestRecord::from((&*format!("key-{key}"), &*large)));
    runner.run(records()).unwrap();
    runner.run(records()).unwrap();
    assert_eq!(texts(&mut runner), [vec!["0"; 20], vec!["1048576"; 20]].concat());
    // One value that never fits is an error, not an endless loop.
    let limits = TestLimits { state_answer_bytes_max: 50, ..TestLimits::default() };
    let mut runner = TestRunner::<Sizes>::with_limits(deployment(), limits).unwrap();
    runner.run(records()).unwrap();
    assert_eq!(runner.run(records()).unwrap_err(), Failure::from(StateError::TooLarge));
}

#[test]
fn a_cache_that_is_full_is_written_back() {
    let limits = TestLimits { output_bytes_per_step_max: 1 << 30, ..TestLimits::default() };
    let mut runner = TestRunner::<Script>::with_limits(deployment(), limits).unwrap();
    let large = "x".repeat((1 << 20) - 2);
    let keys = 10..10 + (STORE_CACHE_BYTES_MAX >> 20) + 4;
    let mut script: Vec<String> = keys.clone().map(|key| format!("put {key} {large}{key}")).collect();
    script.extend(keys.clone().map(|key| format!("get {key}")));
    runner.run(script.iter().map(|line| TestRecord::from(line.as_str()))).unwrap();
    assert_eq!(runner.store(0).len(), keys.len());
    assert!(texts(&mut runner) == keys.map(|key| format!("{large}{key}")).collect::<Vec<_>>());
}

#[test]
fn many_writes_of_one_key_are_one() {
    let mut runner = runner::<Script>();
    runner.run((0..100_000).map(|_| TestRecord::from("put a 12345678901234567890"))).unwrap();
    assert_eq!(runner.host_calls(), 1);
}

#[test]
fn a_failed_call_leaves_nothing_and_a_new_instance() {
    let mut runner = runner::<Script>();
    runner.run(["put a 1", "calls"]).unwrap();
    let failure = runner.run(["put a 2", "set 5 t", "emit x", "fail now", "put a 3"]).unwrap_err();
    assert_eq!(failure, Failure { index: Some(3), message: "fail now".to_owned() });
    runner.run(["calls", "get a"]).unwrap();
    assert_eq!(texts(&mut runner), ["2", "1", "1"]); // 2 calls before, then a new instance counts from 1
    assert!(runner.timers().is_empty());
}

#[test]
fn outputs_keep_their_order_also_when_they_are_many() {
    let mut runner = runner::<Script>();
    let half = format!("big {}", OUTPUT_BUFFER_BYTES_MAX / 2);
    runner.run(["emit a", &half, &half, "emit b"]).unwrap();
    assert_eq!(runner.host_calls(), 2);
    let lengths: Vec<usize> = texts(&mut runner).iter().map(String::len).collect();
    assert_eq!(lengths, [1, OUTPUT_BUFFER_BYTES_MAX / 2, OUTPUT_BUFFER_BYTES_MAX / 2, 1]);
}

#[test]
fn a_step_above_its_output_limit_is_discarded_whatever_the_guest_says() {
    struct Deaf;
    impl RecordProcessor for Deaf {
        fn init(_: &Deployment) -> Result<Self, String> {
            Ok(Self)
        }
        fn process(&mut self, record: &Record<'_>, context: &mut Context) -> Result<(), Failure> {
            let value = vec![0; OUTPUT_BUFFER_BYTES_MAX];
            context.emit(0, OutRecord::from(record).value(&value)).or(Ok(()))
        }
    }
    let limits = TestLimits { output_bytes_per_step_max: 7 * OUTPUT_BUFFER_BYTES_MAX / 2, ..TestLimits::default() };
    let mut runner = TestRunner::<Deaf>::with_limits(deployment(), limits).unwrap();
    assert_eq!(runner.run(["1", "2", "3", "4"]).unwrap_err(), Failure::from(EmitError::TooLarge));
    assert!(runner.take_output(0).is_empty());
    runner.run(["1", "2", "3"]).unwrap();
    assert_eq!(runner.take_output(0).len(), 3);
}

#[test]
fn state_over_its_quota_fails_the_call_and_deleting_still_works() {
    let limits = TestLimits { state_bytes_max: 10, state_key_bytes_max: 4, ..TestLimits::default() };
    let mut runner = TestRunner::<Script>::with_limits(deployment(), limits).unwrap();
    runner.run(["put a 123456789"]).unwrap();
    assert_eq!(runner.run(["put b 1"]).unwrap_err(), Failure::from(StateError::QuotaExceeded));
    assert_eq!(runner.run(["put abcde "]).unwrap_err(), Failure::from(StateError::TooLarge));
    runner.run(["delete a", "put b 1"]).unwrap();
    assert_eq!(runner.store(0).len(), 1);
}

#[test]
fn an_output_or_store_that_was_not_deployed_is_an_error() {
    let mut runner = TestRunner::<Script>::new(Deployment::for_test()).unwrap();
    assert_eq!(runner.run(["emit x"]).unwrap_err().message, EmitError::UnknownOutput.to_string());
    assert_eq!(runner.run(["get x"]).unwrap_err().message, StateError::UnknownStore.to_string());
    let refused = TestRunner::<Script>::new(deployment().set("refuse", "")).err();
    assert_eq!(refused.as_deref(), Some("refused"));
}

#[test]
fn an_impossible_timestamp_is_refused() {
    struct Early;
    impl RecordProcessor for Early {
        fn init(_: &Deployment) -> Result<Self, String> {
            Ok(Self)
        }
        fn process(&mut self, record: &Record<'_>, context: &mut Context) -> Result<(), Failure> {
            Ok(context.emit(0, OutRecord::at(record.timestamp - 1))?)
        }
    }
    let mut runner = runner::<Early>();
    runner.run(["none is -1"]).unwrap();
    assert_eq!(runner.run([TestRecord::from("").at(-1)]).unwrap_err(), Failure::from(EmitError::Malformed));
}

/// Notes each timer in output 0 as `time at id`, and sets the timer `chain` again 5 later.
struct Timed;

impl Processor for Timed {
    fn init(_: &Deployment) -> Result<Self, String> {
        Ok(Self)
    }

    fn process(&mut self, batch: &Batch<'_>, context: &mut Context) -> Result<(), Failure> {
        batch.iter().try_for_each(|record| RecordProcessor::process(&mut Script { calls: 0 }, &record, context))
    }

    fn on_timers(&mut self, timers: &DueTimers<'_>, context: &mut Context) -> Result<(), Failure> {
        for timer in timers.iter() {
            let id = str::from_utf8(timer.id).map_err(|error| timer.failure(error))?;
            if id == "chain" {
                context.timers.set(timer.at + 5, timer.id)?;
            }
            let line = format!("{} {} {id}", timers.stream_time(), timer.at);
            context.emit(0, OutRecord::at(timer.at).value(&line))?;
        }
        Ok(())
    }
}

#[test]
fn timers_fire_once_in_order_when_stream_time_reaches_them() {
    let mut runner = runner::<Timed>();
    runner.run(["set 20 b", "set 20 a", "set 10 0", "set 30 d", "set 10 e", "cancel e", "set 25 0"]).unwrap();
    assert_eq!(texts(&mut runner), [""; 0]);
    runner.run([TestRecord::from("emit now").at(25)]).unwrap();
    assert_eq!(texts(&mut runner), ["now", "25 20 a", "25 20 b", "25 25 0"]);
    assert_eq!(runner.timers(), BTreeMap::from([(b"d".to_vec(), 30)]));
}

// covers STR-7: an older record does not turn stream time back.
#[test]
fn a_late_record_fires_nothing_and_a_past_timer_fires_at_once() {
    let mut runner = runner::<Timed>();
    runner.run([TestRecord::from("set 50 t").at(40)]).unwrap();
    runner.run([TestRecord::from("emit late").at(10)]).unwrap();
    assert_eq!((runner.stream_time(), texts(&mut runner)), (40, vec!["late".to_owned()]));
    runner.run([TestRecord::from("set 39 past").at(0)]).unwrap();
    assert_eq!(texts(&mut runner), ["40 39 past"]);
}

#[test]
fn a_timer_may_set_timers_that_are_due_too() {
    let mut runner = runner::<Timed>();
    runner.run(["set 1 chain"]).unwrap();
    runner.run([TestRecord::from("emit x").at(12)]).unwrap();
    assert_eq!(texts(&mut runner), ["x", "12 1 chain", "12 6 chain", "12 11 chain"]);
    // It would fire as often as it could, for ever: that is an error, not a hang.
    let endless = runner.run([TestRecord::from("emit x").at(i64::MAX / 2)]).unwrap_err();
    assert!(endless.message.contains("without end"), "{endless:?}");
    assert_eq!(runner.stream_time(), 12);
}

#[test]
fn log_lines_arrive_with_their_level_and_below_it_are_dropped() {
    let mut runner = runner::<Script>();
    runner.run(["log hello"]).unwrap();
    assert_eq!(runner.take_logs(), [(Level::Info, "hello".to_owned())]);
    let mut deployment = deployment();
    for (level, lines) in [(Level::Info, 1), (Level::Warn, 0)] {
        deployment.log_level = level;
        let mut runner = TestRunner::<Script>::new(deployment.clone()).unwrap();
        runner.run(["log hello"]).unwrap();
        assert_eq!(runner.take_logs().len(), lines, "{level:?}");
    }
}

#[test]
fn a_panic_is_logged_on_one_line_with_its_place() {
    let host: Rc<TestHost> = Rc::new(TestHost::new(TestLimits::default(), 0, 0));
    let before = std::panic::take_hook();
    crate::log::install_panic_hook();
    let logging = crate::log::enter(&(Rc::clone(&host) as Rc<dyn Host>), Level::Trace);
    let number = std::hint::black_box(3);
    let panicked = std::panic::catch_unwind(|| panic!("record {number} is odd"));
    drop(logging);
    std::panic::set_hook(before);
    assert!(panicked.is_err());
    let lines = host.take_logs();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].0, Level::Error);
    let (place, message) = lines[0].1.split_once(": ").unwrap();
    assert!(place.starts_with("panicked at ") && place.contains("tests.rs:"), "{lines:?}");
    assert_eq!(message, "record 3 is odd");
}

#[test]
fn records_pass_unchanged_with_headers_and_nulls() {
    struct Forward;
    impl RecordProcessor for Forward {
        fn init(_: &Deployment) -> Result<Self, String> {
            Ok(Self)
        }
        fn process(&mut self, record: &Record<'_>, context: &mut Context) -> Result<(), Failure> {
            let record = OutRecord::from(record);
            context.emit(0, record)?;
            Ok(context.emit(0, record.key("k").partition(3).headers(&[("a", None), ("b", Some(b"1"))]))?)
        }
    }
    let records = [
        TestRecord { timestamp: 7, ..TestRecord::default() },
        TestRecord::from(("", "value")).at(-1).header("h", Some(b"")).header("h", None),
    ];
    let mut runner = runner::<Forward>();
    runner.run(records.clone()).unwrap();
    let out = runner.take_output(0);
    assert_eq!([&out[0], &out[2]], [&records[0], &records[1]]);
    let changed =
        TestRecord { key: Some(b"k".to_vec()), partition: Some(3), headers: Vec::new(), ..records[1].clone() };
    assert_eq!(out[3], changed.header("a", None).header("b", Some(b"1")));
}

proptest! {
    /// Any script gives the same answers and the same state in one batch, in batches of one, and with restarts.
    #[test]
    fn how_records_are_cut_into_batches_does_not_matter(
        ops in prop::collection::vec((0u8..5, 0u8..4, 0u8..9), 0..60),
        cut in 1usize..20,
    ) {
        let script: Vec<String> = ops
            .iter()
            .map(|(op, key, value)| match op {
                0 | 1 => format!("put k{key} {value}"),
                2 => format!("delete k{key}"),
                3 => format!("scan k{key} "),
                _ => format!("get k{key}"),
            })
            .collect();
        let records = || script.iter().map(|line| TestRecord::from(line.as_str()));
        let (mut whole, mut single, mut pieces) = (runner::<Script>(), runner::<Script>(), runner::<Script>());
        whole.run(records()).unwrap();
        single.run_each(records()).unwrap();
        for piece in records().collect::<Vec<_>>().chunks(cut) {
            pieces.run(piece.iter().cloned()).unwrap();
            pieces.restart();
        }
        let expected = (texts(&mut whole), whole.store(0));
        prop_assert_eq!(&expected, &(texts(&mut single), single.store(0)));
        prop_assert_eq!(&expected, &(texts(&mut pieces), pieces.store(0)));
    }
}
