//! Running Highwater as users do: as a process, with arguments, a configuration, an environment.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::account::as_server_account;
use crate::build::binary;
use crate::guardian::Task;
use crate::scratch::Scratch;
use crate::wait::holds_within;

/// How long a program may take unless a test says otherwise.
const LIMIT: Duration = Duration::from_secs(300);

/// `highwater` with these arguments.
pub fn highwater<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Program {
    Program::new(binary("highwater"), arguments)
}

/// Takes the machine's environment away from `command`, so that no test depends on it, and leaves what every
/// program needs. The home folder is one for the whole test process, empty at first.
pub(crate) fn clean_environment(command: &mut Command) {
    static HOME: OnceLock<Scratch> = OnceLock::new();
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    command.env_clear().env("PATH", path).env("LANG", "C.UTF-8");
    command.env("HOME", HOME.get_or_init(Scratch::new).path());
}

/// A program that is about to run: as the servers' account, in a clean environment, in the folder `/`, with at most
/// five minutes.
#[derive(Debug)]
pub struct Program {
    command: Command,
    shown: String,
    limit: Duration,
    as_tester: bool,
}

impl Program {
    /// Any program with arguments.
    pub fn new<A: AsRef<OsStr>>(path: impl AsRef<Path>, arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(path.as_ref());
        clean_environment(&mut command);
        command.current_dir("/");
        let name = path.as_ref().file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self { command, shown: name, limit: LIMIT, as_tester: false }.args(arguments)
    }

    /// More arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        for argument in arguments {
            self.shown = format!("{} {}", self.shown, argument.as_ref().to_string_lossy());
            self.command.arg(argument);
        }
        self
    }

    /// The configuration, through `HIGHWATER_CONFIG`.
    pub fn config(self, file: &Path) -> Self {
        self.env("HIGHWATER_CONFIG", file)
    }

    /// An environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// The current folder.
    pub fn in_folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Runs as the account that runs the tests, so as root where that is root.
    pub fn as_tester(mut self) -> Self {
        self.as_tester = true;
        self
    }

    /// How long it may take. What takes longer is killed, and the test fails.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end.
    pub fn run(self) -> Output {
        self.start().wait()
    }

    /// Starts it and goes on.
    pub fn start(mut self) -> Running {
        let folder = Scratch::new();
        let output = |name: &str| File::create(folder.join(name)).expect("the scratch folder can be written");
        self.command.stdin(Stdio::null()).stdout(output("stdout")).stderr(output("stderr")).process_group(0);
        if !self.as_tester {
            as_server_account(&mut self.command);
        }
        let child = self.command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.shown));
        let task = Task::new(&format!("kill -9 {}", child.id()));
        Running { child, shown: self.shown, limit: self.limit, folder, _task: task }
    }
}

/// A program that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    shown: String,
    limit: Duration,
    folder: Scratch,
    _task: Task,
}

impl Running {
    /// Waits for its end.
    pub fn wait(mut self) -> Output {
        let limit = self.limit;
        if !holds_within(limit, || self.is_done()) {
            panic!("{} took more than {limit:?}; so far:\n{}{}", self.shown, self.stdout(), self.stderr());
        }
        self.output()
    }

    /// Kills it where it stands (SIGKILL), and waits for its end. It may have ended by itself before.
    pub fn kill9(self) -> Output {
        self.end_with(Signal::KILL)
    }

    /// Asks it to end (SIGTERM), and waits for its end.
    pub fn terminate(self) -> Output {
        self.end_with(Signal::TERM)
    }

    fn end_with(mut self, signal: Signal) -> Output {
        if !self.is_done() {
            // Not yet waited for, so the id is still this child's, dead or alive.
            kill_process(Pid::from_child(&self.child), signal).expect("a child can be signalled");
        }
        self.wait()
    }

    /// Whether it has ended.
    pub fn is_done(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked for its state").is_some()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to its standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.folder.join("stdout"))
    }

    /// What it has written to its standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.folder.join("stderr"))
    }

    fn output(&mut self) -> Output {
        let status = self.child.wait().expect("a child can be waited for");
        Output { shown: self.shown.clone(), status, stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_done() {
            if thread::panicking() {
                eprintln!(
                    "--- {} was still running; so far:\n{}{}",
                    self.shown,
                    self.stdout(),
                    self.stderr()
                );
            }
            // It may end by itself in this moment, which is as good.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn read(path: &PathBuf) -> String {
    String::from_utf8_lossy(&std::fs::read(path).expect("a program's output can be read")).into_owned()
}

/// How a program ended and what it wrote.
#[derive(Debug, Clone)]
pub struct Output {
    shown: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ended with {}\n{}{}", self.shown, self.status, self.stdout, self.stderr)
    }
}

impl Output {
    /// Asserts exit status 0.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        self.ends_with(0)
    }

    /// Asserts this exit status.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self
    }

    /// Asserts that a failure is one clear message: not by a signal, no panic, standard error not empty.
    #[track_caller]
    pub fn fails_clearly(self) -> Self {
        assert!(self.status.code().is_some_and(|code| code != 0), "{self}");
        assert!(!self.stderr.trim().is_empty() && !self.stderr.contains("panicked"), "{self}");
        self
    }

    /// Asserts that `text` stands in the standard output or the standard error.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stdout.contains(text) || self.stderr.contains(text), "{text:?} is missing: {self}");
        self
    }

    /// Asserts that `text` stands in neither.
    #[track_caller]
    pub fn does_not_say(self, text: &str) -> Self {
        assert!(!self.stdout.contains(text) && !self.stderr.contains(text), "{text:?} was said: {self}");
        self
    }

    /// Asserts that it wrote nothing at all.
    #[track_caller]
    pub fn silently(self) -> Self {
        assert!(self.stdout.is_empty() && self.stderr.is_empty(), "{self}");
        self
    }

    /// The standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON: {error}: {self}"))
    }

    /// The exit status as a shell shows it: 128 and the signal's number for what a signal ended.
    pub fn shell_status(&self) -> i32 {
        self.status
            .code()
            .or(self.status.signal().map(|signal| 128 + signal))
            .expect("it ended one way or the other")
    }
}
