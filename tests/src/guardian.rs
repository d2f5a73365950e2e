//! Cleans up behind a test process that dies without running its destructors (a signal, an abort, the statics at
//! its end): a small shell that reads from a pipe, and does what is still to be done when the pipe closes.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// Newest task first, so that a server is ended before the folder it lives in is removed.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
tasks=''
while read -r verb id command; do
  case $verb in
    add) eval "task_$id=\$command"; tasks="$id $tasks" ;;
    done) eval "task_$id=:" ;;
  esac
done
for id in $tasks; do eval "eval \"\$task_$id\""; done
"#;

static SHELL: OnceLock<Mutex<Child>> = OnceLock::new();
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Something the guardian does unless it is dropped first.
#[derive(Debug)]
pub(crate) struct Task(u64);

impl Task {
    /// `command` is one line of shell, run when this process is gone and the task was not dropped before.
    pub(crate) fn new(command: &str) -> Self {
        assert!(!command.contains('\n'), "a guardian's command is one line: {command}");
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        send(&format!("add {id} {command}\n"));
        Self(id)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        send(&format!("done {} -\n", self.0));
    }
}

fn send(line: &str) {
    let mut shell = SHELL.get_or_init(start).lock().unwrap_or_else(PoisonError::into_inner);
    let pipe = shell.stdin.as_mut().expect("its standard input is a pipe");
    if let Err(error) = pipe.write_all(line.as_bytes()) {
        eprintln!("harness: the guardian is gone ({error}); servers may outlive this process");
    }
}

fn start() -> Mutex<Child> {
    let shell = Command::new("sh")
        .args(["-c", SCRIPT])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C goes to the test's process group; the guardian must outlive it.
        .process_group(0)
        .spawn()
        .expect("sh starts");
    Mutex::new(shell)
}

/// `text` as one word of shell.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
