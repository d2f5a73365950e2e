"""How fast `highwater log` reads WAL, beside pg_waldump on the same segments uncompressed."""

import statistics

import measure
import server

ROUNDS = 3
# More rows than any transaction changes: everything has to be read, and nothing is printed.
NONE = 10**15


def full_page_images(cluster, count):
    """Segments of WAL that is mostly images of pages: a few rows on each page are changed after a checkpoint."""
    before = cluster.sql("select pg_walfile_name(pg_switch_wal())")
    table = "pgbench_accounts" if cluster.kind == "pgbench" else "rows"
    column = "abalance" if cluster.kind == "pgbench" else "amount"
    while True:
        cluster.sql("checkpoint")
        cluster.sql(f"update {table} set {column} = {column} + 1 where hashtext(ctid::text) % 40 = 0")
        segments = [name for name in cluster.all_segments() if name > before]
        if len(segments) >= count:
            return segments[:count]


def speed(cluster, site, what, segments):
    """One line: ours and pg_waldump's over the same segments."""
    config = {"HIGHWATER_CONFIG": site.fresh(f"log-{what.split()[0]}", cluster)}
    for name in segments:
        measure.run([site.bin["highwater-archive-cmd"], f"pg_wal/{name}"], cwd=cluster.data, env=config)
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(measure.run([site.bin["highwater"], "log", "--quiet", "--json", "--min-rows", NONE], env=config))
        theirs.append(measure.run(
            [server.BIN / "pg_waldump", "--stats=record", f"--path={cluster.data}/pg_wal", segments[0], segments[-1]]))
    gigabytes = len(segments) * 16 / 1024
    wall, cpu = (statistics.median(getattr(run, field) for run in ours) for field in ("wall", "cpu"))
    peer = statistics.median(run.wall for run in theirs)
    print(f"  log of {len(segments)} segments, {what:<18} {wall:6.3f} s   {wall / peer:.2f} × pg_waldump --stats=record   "
          f"{gigabytes / wall:.2f} GiB/s, {gigabytes / cpu:.2f} GiB per second and core   "
          f"peak {max(run.peak_mib for run in ours):.0f} MiB   to reach: ≤ 1.0, ≥ 0.93 (1 GB) with full-page images")


def run(cluster, site, count):
    speed(cluster, site, "rows", cluster.segments(count))
    speed(cluster, site, "full-page images", full_page_images(cluster, count))
