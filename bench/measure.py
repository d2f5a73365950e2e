"""Runs a command as user postgres where root runs the benchmark, and tells what it took."""

import dataclasses
import os
import pwd
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
