"""The binaries that are measured."""

import os
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def path(name):
    found = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / os.environ.get("PROFILE", "release") / name
    if not found.exists():
        sys.exit(f"{found} is not there; hint: make build, or make bench, which builds what it measures")
    return found


def found():
    return {name: path(name) for name in ("highwater", "highwater-archive-cmd", "highwater-restore-cmd")}
