"""Runs a command as user postgres where root runs the benchmark, and tells what it took."""

import ctypes
import dataclasses
import os
import pwd
import signal
import subprocess
import sys
import time


@dataclasses.dataclass
class Taken:
    wall: float      # seconds
    cpu: float       # seconds, user and system, children included
    peak_mib: float  # the largest single process


def as_postgres():
    """PostgreSQL does not run as root, and its files are only its own."""
    if os.getuid() != 0:
        return {}
    entry = pwd.getpwnam("postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def own(path):
    if os.getuid() == 0:
        entry = pwd.getpwnam("postgres")
        os.chown(path, entry.pw_uid, entry.pw_gid)


def own_new(path):
    path.touch()
    own(path)


def run(command, cwd="/", env=None):
    words = [str(word) for word in command]
    variables = {**os.environ, **{name: str(value) for name, value in (env or {}).items()}}
    begun = time.perf_counter()
    with subprocess.Popen(words, cwd=cwd, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **as_postgres()) as child:
        message = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    taken = Taken(time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
    if child.returncode != 0:
        sys.exit(f"{' '.join(words)} ended with {child.returncode}:\n{message.decode(errors='replace')}")
    return taken


def shell(line, cwd="/", env=None):
    return run(["/bin/sh", "-c", line], cwd, env)


PR_SET_CHILD_SUBREAPER = 36


class Family:
    """What a run of commands took, with everything that they leave running behind them."""

    def __init__(self):
        # What is orphaned becomes a child of this process, so that its time is known when it ends.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        # The peak is that of what was left running.
        self.walls, self.cpu, self.peak_mib = [], 0.0, 0.0
        self.begun = time.perf_counter()

    def run(self, command, cwd="/", env=None):
        taken = run(command, cwd, env)
        self.walls.append(taken.wall)
        self.cpu += taken.cpu

    def end(self, name):
        """The time from the first command to the last one's end; what still runs under this name is ended."""
        wall = time.perf_counter() - self.begun
        limit = time.monotonic() + 120
        while time.monotonic() < limit:
            for process in children(name):
                os.kill(process, signal.SIGTERM)
            try:
                process, _, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return wall
            if process:
                self.cpu += usage.ru_utime + usage.ru_stime
                self.peak_mib = max(self.peak_mib, usage.ru_maxrss / 1024)
            elif not children(""):
                return wall
            else:
                time.sleep(0.05)
        sys.exit(f"{name} does not end")


def children(name):
    """This process's children whose command line contains the name; servers that it keeps are none of them."""
    found = []
    for folder in os.listdir("/proc"):
        if not folder.isdigit():
            continue
        try:
            with open(f"/proc/{folder}/stat", encoding="utf-8", errors="replace") as stat:
                parent = int(stat.read().rsplit(")", 1)[1].split()[1])
            with open(f"/proc/{folder}/cmdline", encoding="utf-8", errors="replace") as line:
                words = line.read()
        except OSError:
            continue
        if parent == os.getpid() and name in words and "moto" not in words and "/postgres" not in words:
            found.append(int(folder))
    return found
