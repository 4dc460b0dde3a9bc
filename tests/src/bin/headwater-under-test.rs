//! The `headwater` binary with fail points compiled in; what the tests start, kill and talk to.

fn main() -> std::process::ExitCode {
    headwater_cli::main()
}
