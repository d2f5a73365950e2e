//! One server process: started with its output in a log, watched, ended by its process id.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::guardian::Task;
use crate::wait::{PATIENCE, holds_within};

/// How many lines of its log a server shows when its test fails.
const LINES_SHOWN: usize = 60;

/// A running server. Dropping it ends it; the guardian does when the test process dies first.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: Log,
    end: Signal,
    _task: Task,
}

impl Server {
    /// Starts `command` with both outputs appended to `log`. `end` is the signal that ends it at once and cleanly.
    pub(crate) fn spawn(command: &mut Command, log: &Path, end: Signal) -> Self {
        let log = Log::at_end_of(log);
        let output = log.open();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file handle can be doubled"))
            .stderr(output)
            // A Ctrl-C is for the test, which then ends its servers in its own way.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{command:?} cannot be started: {error}; hint: run scripts/setup")
            });
        let (pid, signal) = (child.id(), end.as_raw());
        // A zombie that nobody reaps is as good as gone.
        let alive = format!("[ -d /proc/{pid} ] && ! grep -q '^State:.Z' /proc/{pid}/status");
        let task = Task::new(&format!(
            "kill -{signal} {pid}; n=0; while {alive} && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done; {alive} && kill -9 {pid}"
        ));
        Self { child, log, end, _task: task }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// How it ended, when it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked for its state")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        // It may have ended by itself in this moment, which is as good.
        if let Err(error) = kill_process(pid, signal) {
            assert_eq!(error, rustix::io::Errno::SRCH, "process {} cannot be signalled", self.child.id());
        }
    }

    /// Waits for its end; kills it and answers false when it takes longer than the harness's patience.
    pub(crate) fn wait_for_end(&mut self) -> bool {
        let ended = holds_within(PATIENCE, || self.ended().is_some());
        if !ended {
            self.signal(Signal::KILL);
            self.child.wait().expect("a killed child ends");
        }
        ended
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(self.end);
            if !self.wait_for_end() {
                eprintln!(
                    "harness: process {} had to be killed after {PATIENCE:?}:\n{}",
                    self.pid(),
                    self.log.text()
                );
            }
        }
        if thread::panicking() {
            eprintln!("--- the end of {}\n{}", self.log.path.display(), self.log.tail(LINES_SHOWN));
        }
    }
}

/// A log file, read from where it ended when the server was started.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    path: PathBuf,
    start: usize,
}

impl Log {
    fn at_end_of(path: &Path) -> Self {
        let start = fs::metadata(path).map_or(0, |metadata| metadata.len());
        Self { path: path.to_owned(), start: usize::try_from(start).unwrap_or(usize::MAX) }
    }

    fn open(&self) -> File {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .unwrap_or_else(|error| panic!("{} cannot be opened: {error}", self.path.display()))
    }

    /// What this server has written so far.
    pub(crate) fn text(&self) -> String {
        let bytes = fs::read(&self.path).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(self.start..).unwrap_or_default()).into_owned()
    }

    fn tail(&self, lines: usize) -> String {
        let text = self.text();
        let skipped = text.lines().count().saturating_sub(lines);
        text.lines().skip(skipped).collect::<Vec<_>>().join("\n")
    }
}
