//! Compilation in a child process, for real: this program is broker and compiler, as `headwater` is. It has a `main` of
//! its own because the child's standard output belongs to the protocol.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test, though clippy can't know: it has no libtest harness"
)]

#[path = "../src/testing/component.rs"]
mod component;

use component::{Guest, WIT, component};
use headwater_protocol::ids::ModuleDigest;
use headwater_wasm_host::{
    CompileLimits, CompilerCommand, HostError, LoadError, Loader, LoaderConfig, Runtime, RuntimeConfig,
    compile_child_main,
};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const COMPILE: &str = "compile-module";

/// Name and body.
type Test = (&'static str, fn(&Loaders));

fn main() -> ExitCode {
    // What a hostile or broken child may do instead of answering.
    match std::env::args().nth(1).as_deref() {
        Some(COMPILE) => return compile_child_main(),
        Some("sleep") => loop {
            std::thread::park();
        },
        Some("babble") => {
            print!("{}", "babble ".repeat(1000));
            return ExitCode::SUCCESS;
        }
        Some("crash") => std::process::abort(),
        _ => {}
    }
    let tests: [Test; 7] = [
        ("a_module_is_compiled_once_and_then_cached", a_module_is_compiled_once_and_then_cached),
        ("many_at_once_compile_one_at_a_time", many_at_once_compile_one_at_a_time),
        ("an_invalid_function_body_is_the_modules_fault", an_invalid_function_body_is_the_modules_fault),
        ("memory_and_cpu_of_the_child_are_limited", memory_and_cpu_of_the_child_are_limited),
        ("a_child_that_never_answers_is_killed", a_child_that_never_answers_is_killed),
        ("a_child_that_is_no_compiler_is_our_fault", a_child_that_is_no_compiler_is_our_fault),
        ("a_crash_is_survived", a_crash_is_survived),
    ];
    let filters = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect::<Vec<_>>();
    let loaders = Loaders { runtime: Runtime::new(RuntimeConfig::default()).expect("the engine starts") };
    for (name, test) in tests {
        if filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())) {
            test(&loaders);
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

struct Loaders {
    runtime: Runtime,
}

impl Loaders {
    fn open(&self, cache: &Path, argument: &str, compile: CompileLimits) -> Loader {
        let command = CompilerCommand::this_program([OsString::from(argument)]);
        let config = LoaderConfig { compile, ..LoaderConfig::new(cache, command) };
        Loader::open(self.runtime.clone(), config).expect("the cache opens")
    }

    /// Loads `component` with a fresh cache.
    fn load(&self, argument: &str, compile: CompileLimits, component: &[u8]) -> Result<(), LoadError> {
        let cache = tempfile::tempdir().expect("a directory");
        self.open(cache.path(), argument, compile).load(ModuleDigest([1; 32]), component).map(drop)
    }

    fn limit(&self, argument: &str, compile: CompileLimits, component: &[u8]) -> &'static str {
        match self.load(argument, compile, component) {
            Err(LoadError::Limit { name, .. }) => name,
            other => panic!("no limit was hit: {other:?}"),
        }
    }
}

/// A processor with a body that takes the compiler long: `count` functions of `length` operations each.
fn large(count: usize, length: usize) -> Vec<u8> {
    let operation =
        "(local.set 0 (i64.add (i64.mul (local.get 0) (local.get 1)) (i64.load (i32.wrap_i64 (local.get 0)))))";
    let function = format!("(func (param i64 i64) {})", operation.repeat(length));
    Guest { definitions: &function.repeat(count), ..Guest::default() }.component()
}

fn a_module_is_compiled_once_and_then_cached(loaders: &Loaders) {
    let cache = tempfile::tempdir().expect("a directory");
    let (one, two) = (ModuleDigest([1; 32]), ModuleDigest([2; 32]));
    let bytes = Guest::default().component();
    let loader = loaders.open(cache.path(), COMPILE, CompileLimits::default());
    let module = loader.load(one, &bytes).expect("it loads");
    assert_eq!(module.digest(), one);
    loader.load(one, &bytes).expect("it is loaded");
    assert_eq!((loader.compilations(), loader.cache_hits()), (1, 0), "shared while it is in use");
    drop(module);
    loader.load(one, &bytes).expect("it loads");
    assert_eq!((loader.compilations(), loader.cache_hits()), (1, 1));

    let loader = loaders.open(cache.path(), COMPILE, CompileLimits::default());
    loader.load(one, &bytes).expect("it loads");
    assert_eq!((loader.compilations(), loader.cache_hits()), (0, 1), "across a restart");
    loader.load(two, &bytes).expect("it loads");
    loader.forget(&two).expect("it is forgotten");
    loader.load(two, &bytes).expect("it loads");
    assert_eq!((loader.compilations(), loader.cache_hits()), (2, 1));

    // W5: a file that was tampered with is not run but made again.
    for entry in std::fs::read_dir(cache.path()).expect("it is there") {
        let path = entry.expect("it is there").path();
        if path.extension().is_some_and(|extension| extension == "cwasm") {
            let mut code = std::fs::read(&path).expect("it reads");
            let last = code.len() - 1;
            code[last] ^= 1;
            std::fs::write(&path, code).expect("it writes");
        }
    }
    let loader = loaders.open(cache.path(), COMPILE, CompileLimits::default());
    loader.load(one, &bytes).expect("it loads");
    assert_eq!((loader.compilations(), loader.cache_hits()), (1, 0), "tampered with");
}

fn many_at_once_compile_one_at_a_time(loaders: &Loaders) {
    let cache = tempfile::tempdir().expect("a directory");
    let loader = Arc::new(loaders.open(cache.path(), COMPILE, CompileLimits::default()));
    let bytes = Guest::default().component();
    std::thread::scope(|scope| {
        let load = |number| loader.load(ModuleDigest([number; 32]), &bytes).expect("it loads");
        let threads = [1, 2, 1, 2, 1].map(|number| scope.spawn(move || load(number)));
        let modules = threads.map(|thread| thread.join().expect("no panic"));
        assert_eq!(modules.map(|module| module.digest().0[0]), [1, 2, 1, 2, 1]);
    });
    assert_eq!(loader.compilations(), 2);
}

fn an_invalid_function_body_is_the_modules_fault(loaders: &Loaders) {
    // Inspection counts bodies and does not read them; the child does. The guest's only `i64.const 77` loses its type.
    let process = "(drop (i64.add (i64.const 77) (i64.const 1))) (i32.const 0)";
    let mut bytes = Guest { process, ..Guest::default() }.component();
    let needle = [0x42, 0xcd, 0x00, 0x42, 0x01, 0x7c];
    let at = bytes.windows(needle.len()).position(|window| window == needle).expect("it is in there");
    bytes[at] = 0x41;
    match loaders.load(COMPILE, CompileLimits::default(), &bytes) {
        Err(LoadError::Invalid(message)) => assert!(message.contains("type mismatch"), "{message}"),
        other => panic!("{other:?}"),
    }
    // A refusal before any process is started.
    let foreign = component("package a:b; world w { export run: func(); }", "w", r#"(module (func (export "run")))"#);
    assert!(matches!(loaders.load("crash", CompileLimits::default(), &foreign), Err(LoadError::Refused(_))));
    assert!(WIT.contains("world processor"));
}

// covers W5: compile-time denial of service
fn memory_and_cpu_of_the_child_are_limited(loaders: &Loaders) {
    let module = large(400, 400);
    let memory = CompileLimits { memory_bytes_max: 24 << 20, ..CompileLimits::default() };
    assert_eq!(loaders.limit(COMPILE, memory, &module), "memory_bytes_max");
    let code = CompileLimits { artefact_bytes_max: 1000, ..CompileLimits::default() };
    assert_eq!(loaders.limit(COMPILE, code, &Guest::default().component()), "artefact_bytes_max");
    let cpu = CompileLimits { cpu_max: Duration::from_secs(1), ..CompileLimits::default() };
    assert_eq!(loaders.limit(COMPILE, cpu, &large(2500, 400)), "cpu_max");
}

fn a_child_that_never_answers_is_killed(loaders: &Loaders) {
    let limits = CompileLimits { wall_clock_max: Duration::from_millis(200), ..CompileLimits::default() };
    // Larger than a pipe: the child does not even read it.
    assert_eq!(loaders.limit("sleep", limits, &large(50, 400)), "wall_clock_max");
}

fn a_child_that_is_no_compiler_is_our_fault(loaders: &Loaders) {
    let bytes = Guest::default().component();
    let babble = loaders.load("babble", CompileLimits::default(), &bytes);
    assert!(matches!(babble, Err(LoadError::Host(HostError::CompilerAnswer { .. }))), "{babble:?}");
    let cache = tempfile::tempdir().expect("a directory");
    let command = CompilerCommand { program: "/nonexistent/headwater".into(), args: Vec::new() };
    let loader = Loader::open(loaders.runtime.clone(), LoaderConfig::new(cache.path(), command)).expect("it opens");
    let missing = loader.load(ModuleDigest([1; 32]), &bytes).map(drop);
    assert!(matches!(missing, Err(LoadError::Host(HostError::CompilerProcess { .. }))), "{missing:?}");
}

fn a_crash_is_survived(loaders: &Loaders) {
    let crash = loaders.load("crash", CompileLimits::default(), &Guest::default().component());
    assert!(matches!(crash, Err(LoadError::Crashed { .. })), "{crash:?}");
}
