//! A disk that is soon full.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::account::{give_to_server_account, is_root};
use crate::guardian::{self, Task};
use crate::scratch::Scratch;

/// A file system of a few megabytes in memory, for a real "no space left". Needs root, or `sudo` without a
/// password.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    // Both after the unmounting in `drop`; the guardian unmounts before it removes the folder, newest task first.
    _task: Task,
    _scratch: Scratch,
}

impl SmallDisk {
    /// Mounts `size` megabytes.
    pub fn of_megabytes(size: u32) -> Self {
        let scratch = Scratch::new();
        let path = scratch.folder("disk");
        let task =
            Task::new(&format!("{} umount --lazy {}", sudo(), guardian::quote(&path.display().to_string())));
        run_as_root(&["mount", "-t", "tmpfs", "-o", &format!("size={size}m,mode=0777"), "tmpfs"], &path);
        give_to_server_account(&path);
        Self { path, _task: task, _scratch: scratch }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills it to the last byte with the file `ballast`; [`SmallDisk::make_room`] removes it.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.ballast()).expect("the disk can be written");
        let piece = [0; 4096];
        while file.write_all(&piece).is_ok() {}
    }

    /// Removes what [`SmallDisk::fill`] wrote.
    pub fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("the disk was filled before");
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run_as_root(&["umount", "--lazy"], &self.path);
    }
}

fn sudo() -> &'static str {
    if is_root() { "" } else { "sudo -n" }
}

fn run_as_root(words: &[&str], path: &Path) {
    let all: Vec<&str> = sudo().split_whitespace().chain(words.iter().copied()).collect();
    let output = Command::new(all[0]).args(&all[1..]).arg(path).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", all[0]));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{all:?}: {message}; hint: a small disk needs root's rights");
}
