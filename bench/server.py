"""A PostgreSQL 15 with data, WAL to archive, and pgBackRest set up beside it."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import measure

BIN = pathlib.Path("/usr/lib/postgresql/15/bin")
# A replay that takes longer has failed.
REPLAY_SECONDS = 600

# A table of random-looking rows: what real data is like, where pgbench's filler compresses away.
ROWS = """
create table rows (id uuid default gen_random_uuid(), at timestamptz default clock_timestamp(), amount numeric, words text, more jsonb);
insert into rows (amount, words, more)
select (random() * 100000)::numeric(12, 4),
       (select string_agg(substr(md5((n * 7 + w)::text), 1, 3 + w % 7), ' ') from generate_series(1, 12) w),
       jsonb_build_object('key', n, 'state', (array['new', 'paid', 'sent', 'lost'])[1 + n % 4], 'hash', md5(random()::text))
from generate_series(1, {count}) n
"""


class Site:
    """Highwater set up: a repository and a configuration for each round."""

    def __init__(self, place, binaries):
        self.place = place
        # The checkout may be where user postgres cannot enter.
        folder = place / "bin"
        folder.mkdir()
        self.bin = {name: pathlib.Path(shutil.copy(path, folder / name)) for name, path in binaries.items()}
        folder.chmod(0o755)

    def fresh(self, name, cluster, repository=None):
        config = self.place / f"{name}.toml"
        repository = repository or f'url = "file://{self.place}/{name}"\n'
        config.write_text(
            f"[repository]\n{repository}\n"
            f'[cluster.main]\nconnection = "{cluster.connection}"\ndata-directory = "{cluster.data}"\n'
        )
        measure.own(config)
        arguments = ["--allow-unsafe-store"] if "allow-unsafe-store" in repository else []
        measure.run([self.bin["highwater"], "init", *arguments], env={"HIGHWATER_CONFIG": config})
        return config

    def another(self, name, cluster, repository):
        """A configuration for a repository that is there already."""
        config = self.place / f"{name}.toml"
        config.write_text(f'[repository]\n{repository}\n[cluster.main]\ndata-directory = "{cluster.data}"\n')
        measure.own(config)
        return config


class Cluster:
    def __init__(self, place, kind, megabytes):
        self.place, self.kind, self.megabytes = place, kind, megabytes
        self.data = place / "data"
        # Where pgBackRest's repository of a round is, when it is no folder.
        self.backrest_places = {}
        self.connection = f"host={place} port=5432 user=postgres dbname=postgres"

    def __enter__(self):
        measure.run([BIN / "initdb", "-D", self.data, "-U", "postgres", "--auth=trust", "--data-checksums"])
        settings = {
            "unix_socket_directories": f"'{self.place}'", "listen_addresses": "''", "archive_mode": "on", "archive_command": "'/bin/true'",
            "wal_keep_size": "'2GB'", "max_wal_size": "'4GB'", "shared_buffers": "'512MB'", "checkpoint_timeout": "'1h'",
        }
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.writelines(f"{name} = {value}\n" for name, value in settings.items())
        measure.run([BIN / "pg_ctl", "start", "-D", self.data, "-w", "-s", "-l", self.place / "log"])
        if self.kind == "pgbench":
            # A scale of 1 is 15 MB.
            measure.run([BIN / "pgbench", "-i", "-q", "-s", str(max(1, self.megabytes // 15)), self.connection])
            measure.run([BIN / "pgbench", "-c", "4", "-T", "10", "-n", self.connection])
        else:
            # A row is about 250 bytes.
            self.sql(ROWS.format(count=self.megabytes * 4000))
        self.sql("vacuum analyze")
        self.sql("checkpoint")
        self.conf = self.place / "pgbackrest.conf"
        return self

    def __exit__(self, *_):
        measure.run([BIN / "pg_ctl", "stop", "-D", self.data, "-m", "immediate", "-s"])

    def sql(self, text):
        words = [BIN / "psql", "-d", self.connection, "-Atqc", text]
        done = subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True, **measure.as_postgres())
        return done.stdout.strip()

    def size_mb(self):
        return int(self.sql("select sum(pg_database_size(oid)) / 1000000 from pg_database").split(".")[0])

    def segments(self, count):
        """The names of completed segments, newest last."""
        while True:
            current = self.sql("select pg_walfile_name(pg_switch_wal())")
            done = sorted(name for name in os.listdir(self.data / "pg_wal") if len(name) == 24 and name < current)
            if len(done) >= count:
                return done[-count:]
            self.write_wal()

    def base_and_segments(self, count):
        """A copy of the data directory, and the segments of WAL that were written since: all of them inserts and updates."""
        base = self.place / "base"
        self.sql("checkpoint")
        first = self.sql("select pg_walfile_name(pg_switch_wal())")
        measure.run([BIN / "pg_ctl", "stop", "-D", self.data, "-m", "fast", "-s", "-w"])
        measure.run(["cp", "-a", self.data, base])
        measure.run([BIN / "pg_ctl", "start", "-D", self.data, "-w", "-s", "-l", self.place / "log"])
        for name in os.listdir(base / "pg_wal"):
            if len(name) == 24 and name < first:
                os.remove(base / "pg_wal" / name)
        return base, self.segments_after(first, count)

    def segments_after(self, first, count):
        while True:
            current = self.sql("select pg_walfile_name(pg_switch_wal())")
            done = sorted(name for name in os.listdir(self.data / "pg_wal") if len(name) == 24 and first <= name < current)
            if len(done) >= count:
                return done
            self.write_wal()

    def write_wal(self):
        if self.kind == "pgbench":
            # What is wanted is WAL, and soon: the disk's syncs would bound it.
            hurry = {"PGOPTIONS": "-c synchronous_commit=off"}
            measure.run([BIN / "pgbench", "-c", "4", "-T", "5", "-n", self.connection], env=hurry)
        else:
            self.sql("create table if not exists again (like rows)")
            self.sql("insert into again select * from rows limit 100000")

    def replayed(self, base, command):
        """Recovers a copy with this restore_command; the seconds that PostgreSQL tells it has taken."""
        data, log = self.place / "replayed", self.place / "replay.log"
        measure.run(["cp", "-a", base, data])
        quoted = command.replace("'", "''")
        with open(data / "postgresql.auto.conf", "a", encoding="utf-8") as conf:
            conf.write(f"restore_command = '{quoted}'\narchive_mode = off\nhot_standby = off\nport = 5433\n")
        measure.own_new(data / "recovery.signal")
        log.unlink(missing_ok=True)
        measure.run([BIN / "pg_ctl", "start", "-D", data, "-w", "-s", "-t", "600", "-l", log])
        # Without hot standby it is said to be started while it recovers.
        limit = time.monotonic() + REPLAY_SECONDS
        while not any(end in log.read_text() for end in ("archive recovery complete", "FATAL")) and time.monotonic() < limit:
            time.sleep(0.05)
        measure.run([BIN / "pg_ctl", "stop", "-D", data, "-m", "immediate", "-s"])
        shutil.rmtree(data)
        done = re.search(r"redo done at .* elapsed: ([0-9.]+) s", log.read_text())
        if done is None:
            sys.exit(f"{command}: nothing was replayed:\n{log.read_text()}")
        return float(done.group(1))

    def mark_ready(self, names):
        """As PostgreSQL does with a segment that is complete."""
        for name in names:
            measure.own_new(self.data / "pg_wal/archive_status" / f"{name}.ready")

    def mark_done(self, name):
        status = self.data / "pg_wal/archive_status"
        os.rename(status / f"{name}.ready", status / f"{name}.done")

    def all_segments(self):
        """The names of all completed segments, newest last."""
        current = self.sql("select pg_walfile_name(pg_current_wal_lsn())")
        return sorted(name for name in os.listdir(self.data / "pg_wal") if len(name) == 24 and name < current)

    def configure_archiving(self, command):
        self.sql(f"alter system set archive_command = '{command}'")
        self.sql("select pg_reload_conf()")

    def archive_into(self, site, config):
        self.configure_archiving(f"HIGHWATER_CONFIG={config} {site.bin['highwater-archive-cmd']} %p")

    def archive_with_backrest(self, number):
        self.configure_archiving(" ".join(self.backrest(number, "archive-push", "%p")))

    def backrest(self, number, verb, *arguments):
        """A pgBackRest command for the repository of a round, which is made at its first use."""
        config = self.place / f"backrest-{number}.conf"
        words = ["pgbackrest", f"--config={config}", "--stanza=main"]
        if not config.exists():
            self.make_backrest(number, config, words)
        options = [argument for argument in arguments if argument.startswith("--")]
        plain = [argument for argument in arguments if not argument.startswith("--")]
        return [*words, *options, verb, *plain]

    def make_backrest(self, number, config, words):
        repository = self.place / f"backrest-{number}"
        repository.mkdir()
        measure.own(repository)
        place = self.backrest_places.get(number, f"repo1-path={repository}\n")
        config.write_text(
            f"[global]\n{place}repo1-retention-full=9\ncompress-type=lz4\ncompress-level=1\nprocess-max=2\n"
            f"lock-path={self.place}/lock\nlog-level-file=off\nlog-level-console=error\n"
            f"[main]\npg1-path={self.data}\npg1-socket-path={self.place}\npg1-user=postgres\n"
        )
        measure.own(config)
        measure.run([*words, "stanza-create"])
