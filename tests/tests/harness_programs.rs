//! The harness itself: programs run, fail, hang, are killed; those of the workspace are built.

use std::time::Duration;

use highwater_tests::{PATIENCE, Program, wait_until};

#[test]
fn a_program_s_end_and_words_are_told() {
    let output =
        Program::new("sh", ["-c", "echo out; echo err >&2; exit 3"]).run().ends_with(3).fails_clearly();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("out\n", "err\n"));
    output.says("out").says("err").does_not_say("other");
    Program::new("true", [""; 0]).run().succeeds().silently();
    assert_eq!(Program::new("echo", ["[1]"]).run().json()[0], 1);
}

#[test]
fn a_program_sees_only_the_environment_it_is_given() {
    let output = Program::new("env", [""; 0]).env("ONE", "1").run().succeeds().says("ONE=1").says("HOME=");
    assert!(!output.stdout.contains("CARGO"));
}

#[test]
fn a_running_program_can_be_watched_and_killed() {
    let running = Program::new("sh", ["-c", "echo started; exec sleep 1000"]).start();
    wait_until("it has started", PATIENCE, || running.stdout() == "started\n");
    assert_eq!(running.kill9().shell_status(), 137);
    assert_eq!(Program::new("sleep", ["1000"]).start().terminate().shell_status(), 143);
}

#[test]
#[should_panic(expected = "took more than")]
fn a_program_that_hangs_fails_its_test() {
    Program::new("sleep", ["1000"]).limit(Duration::from_millis(50)).run();
}
