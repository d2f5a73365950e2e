#!/usr/bin/env python3
"""Restores a Highwater repository without Highwater.

Written from docs/FORMAT.md alone, with nothing but Python's standard library and the command-line tools lz4, zstd and
(for an encrypted repository) age.

    rescue.py REPOSITORY CLUSTER --to DATA --wal WAL [--backup LABEL] [--identity FILE] [--tablespace OLD=NEW]

REPOSITORY is a folder (copy an object store's objects into one). DATA becomes a data directory, WAL a folder of WAL."""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import urllib.parse

AGE = b"age-encryption.org/v1\n"
SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18", re.DOTALL)
CODECS = {b"\x04\x22\x4d\x18": ["lz4", "-dcq"], b"\x28\xb5\x2f\xfd": ["zstd", "-dcq"]}


def fail(message):
    sys.exit(f"rescue: {message}")


def empty_folder(path):
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(path.iterdir()):
        fail(f"{path} is not empty")


def through(command, data, what):
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode != 0:
        fail(f"{what}: {command[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


class Repository:
    def __init__(self, folder, identity):
        self.folder, self.identity, self.packs = folder, identity, {}
        facts = json.loads((folder / "highwater.json").read_text())
        if facts["format"] != 1:
            fail(f"{folder} has format {facts['format']}; this script reads format 1")

    def opened(self, path):
        """An object's content, decrypted where it is encrypted."""
        data = path.read_bytes()
        if not data.startswith(AGE):
            return data
        if self.identity is None:
            fail(f"{path} is encrypted: name the private key with --identity")
        return through(["age", "-d", "-i", str(self.identity)], data, path)

    def head(self, data, path):
        """The JSON in the skippable frame at an object's beginning, and what follows it."""
        if not SKIPPABLE.match(data):
            fail(f"{path} does not begin with a skippable frame")
        end = 8 + int.from_bytes(data[4:8], "little")
        return json.loads(data[8:end].rpartition(b"\n")[0]), data[end:]

    def plain(self, frames, what):
        """What one or several frames hold."""
        if frames[:4] not in CODECS:
            fail(f"{what}: neither LZ4 nor Zstandard")
        return through(CODECS[frames[:4]], frames, what)

    def pack(self, cluster, name):
        if name not in self.packs:
            self.packs = {name: self.opened(cluster / "packs" / name[:2] / name)}
        return self.packs[name]


def bytes_of_path(text):
    path = urllib.parse.unquote_to_bytes(text)
    parts = path.split(b"/")
    if b"\0" in path or any(part in (b"", b".", b"..") for part in parts):
        fail(f"the manifest has the path {text!r}, which leaves the folder: it is forged or damaged")
    return path


def choose(repository, cluster, label):
    """The backup of that label, or the one that ended last."""
    found = {}
    for folder in sorted((cluster / "backups").iterdir()):
        path = folder / "manifest"
        if path.exists() and (label is None or folder.name == label):
            head, frame = repository.head(repository.opened(path), path)
            found[head["postgres"]["stop_time"], folder.name] = (folder, head, frame)
    if not found:
        fail("no complete backup" + (f" {label}" if label else ""))
    return found[max(found)]


def lines(repository, folder, head, frame):
    parts = [folder / f"manifest.{n}" for n in range(1, len(head.get("parts", [])) + 1)]
    for part in [*parts, folder / "manifest"]:
        content = repository.opened(part) if part in parts else frame
        yield from map(json.loads, repository.plain(content, part).splitlines())


def content(repository, cluster, runs):
    for run in runs:
        if "zeros" in run:
            yield bytes(run["zeros"])
            continue
        stored = sum(extent[0] for extent in run["extents"])
        pack = repository.pack(cluster, run["pack"])
        data = repository.plain(pack[run["offset"] : run["offset"] + stored], f"pack {run['pack']}")
        if len(data) != sum(extent[1] for extent in run["extents"]):
            fail(f"pack {run['pack']} is not what the manifest says")
        yield data


def restore(repository, cluster, backup, target, mappings):
    folder, head, frame = backup
    root = os.fsencode(target)
    places = {}
    for space in head["postgres"].get("tablespaces", []):
        place = pathlib.Path(mappings.get(space["location"], space["location"]))
        empty_folder(place)
        places[b"pg_tblspc/%d" % space["oid"]] = os.fsencode(place)

    def place_of(path):
        for link, place in places.items():
            if path.startswith(link + b"/"):
                return os.path.join(place, path[len(link) + 1 :])
        return os.path.join(root, path)

    file = control = None
    for line in lines(repository, folder, head, frame):
        if line["kind"] == "more":
            write(file, content(repository, cluster, line["runs"]))
            continue
        path = bytes_of_path(line["path"])
        if line["kind"] == "folder":
            os.makedirs(place_of(path), 0o700, exist_ok=True)
        elif line["kind"] == "file":
            file = place_of(path)
            if path == b"global/pg_control":  # It comes last: until then PostgreSQL starts nothing here.
                file = control = file + b".rescued"
            os.makedirs(os.path.dirname(file), 0o700, exist_ok=True)
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, int(line["mode"], 8)))
            write(file, content(repository, cluster, line.get("runs", [])))
    for link, place in places.items():
        os.makedirs(os.path.join(root, b"pg_tblspc"), 0o700, exist_ok=True)
        os.symlink(place, os.path.join(root, link))
    (target / "pg_wal").mkdir(mode=0o700, exist_ok=True)
    if (target / "tablespace_map").exists():  # PostgreSQL makes the links again from it.
        map_lines = (link.split(b"/")[1] + b" " + place + b"\n" for link, place in places.items())
        (target / "tablespace_map").write_bytes(b"".join(map_lines))
    if control is None:
        fail("the backup has no global/pg_control")
    os.rename(control, control.removesuffix(b".rescued"))
    return head["postgres"]


def write(file, pieces):
    with open(file, "ab") as out:
        return sum(map(out.write, pieces))


def wal(repository, cluster, target):
    for path in sorted((cluster / "wal").glob("*/*")):
        head, frame = repository.head(repository.opened(path), path)
        data = repository.plain(frame, path)
        if head["file"] != path.name or head["length"] != len(data):
            fail(f"{path} is not what it says")
        (target / path.name).write_bytes(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=pathlib.Path)
    parser.add_argument("cluster")
    parser.add_argument("--to", type=pathlib.Path, required=True, metavar="DATA")
    parser.add_argument("--wal", type=pathlib.Path, required=True)
    parser.add_argument("--backup", metavar="LABEL", help="[default: the newest]")
    parser.add_argument("--identity", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--tablespace", action="append", default=[], metavar="OLD=NEW")
    arguments = parser.parse_args()
    repository = Repository(arguments.repository, arguments.identity)
    systems = arguments.repository / "clusters" / arguments.cluster
    known = {json.loads(path.read_text())["created_at"]: path.parent for path in systems.glob("*/cluster.json")}
    cluster = known[max(known)] if known else fail(f"{arguments.repository} has no cluster {arguments.cluster}")
    for folder in (arguments.to, arguments.wal):
        empty_folder(folder)
    backup = choose(repository, cluster, arguments.backup)
    facts = restore(repository, cluster, backup, arguments.to, dict(m.split("=", 1) for m in arguments.tablespace))
    wal(repository, cluster, arguments.wal)
    print(f"backup {backup[0].name} is in {arguments.to}, consistent from {facts['stop_lsn']}")
    print("remove each restore_command and recovery_target… line from postgresql.auto.conf: they are of an earlier recovery")
    print(f"set restore_command = 'cp {arguments.wal.absolute()}/%f %p', make recovery.signal, and start it")


if __name__ == "__main__":
    main()
