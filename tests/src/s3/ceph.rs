//! The smallest Ceph that serves S3: one monitor, one storage daemon in memory, one gateway.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::{S3, http};
use crate::scratch::Scratch;
use crate::server::Server;
use crate::wait::{PATIENCE, free_port, wait_until};

const ACCESS_KEY: &str = "TESTACCESSKEY";
const SECRET_KEY: &str = "testsecretkey";

/// Nothing is authenticated between the daemons and nothing is kept twice. The proposal interval is what makes
/// Ceph's usual start slow: each of the gateway's pools waits for several rounds of it.
const SETTINGS: &str = "
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor},v1:127.0.0.1:{monitor_v1}]
public network = 127.0.0.0/8
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
pid file = {folder}/$name.pid
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd crush initial weight = 1
mon allow pool size one = true
mon max pg per osd = 1000
mon warn on pool no redundancy = false
[mon]
mon data = {folder}/mon
mon data avail crit = 1
mon data avail warn = 1
paxos propose interval = 0.02
paxos min wait = 0.01
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
[client]
ms mon client mode = crc
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw enable usage log = false
rgw thread pool size = 32
";

pub(super) fn start() -> S3 {
    let scratch = Scratch::new();
    let folder = scratch.path();
    let (monitor, monitor_v1, gateway) = (free_port(), free_port(), free_port());
    let id = || {
        std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("Linux makes UUIDs").trim().to_owned()
    };
    let (fsid, osd_id) = (id(), id());
    let mut settings = SETTINGS.replace("{folder}", &folder.display().to_string()).replace("{fsid}", &fsid);
    for (name, port) in [("{monitor}", monitor), ("{monitor_v1}", monitor_v1), ("{gateway}", gateway)] {
        settings = settings.replace(name, &port.to_string());
    }
    std::fs::write(folder.join("ceph.conf"), settings).expect("the scratch folder can be written");
    for name in ["mon", "osd"] {
        std::fs::create_dir(folder.join(name)).expect("the scratch folder can be written");
    }

    let addresses = format!("[v2:127.0.0.1:{monitor},v1:127.0.0.1:{monitor_v1}]");
    run(folder, "monmaptool", &["--create", "--addv", "a", &addresses, "--fsid", &fsid, "monmap"]);
    run(folder, "ceph-mon", &["--mkfs", "-i", "a", "--monmap", "monmap"]);
    let monitor = daemon(folder, "ceph-mon", &["-i", "a"]);
    run(folder, "ceph", &["--connect-timeout", "60", "osd", "new", &osd_id]);
    run(folder, "ceph-osd", &["-i", "0", "--mkfs", "--osd-uuid", &osd_id]);
    let storage = daemon(folder, "ceph-osd", &["-i", "0"]);
    let keys = ["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY];
    run(
        folder,
        "radosgw-admin",
        &[&["user", "create", "--uid=test", "--display-name=test"][..], &keys].concat(),
    );
    let mut front = daemon(folder, "radosgw", &["-n", "client.rgw"]);

    let address = SocketAddr::from(([127, 0, 0, 1], gateway));
    wait_until("Ceph's gateway answers", PATIENCE, || {
        assert!(front.ended().is_none(), "radosgw ended:\n{}", front.log().text());
        http::answers(address)
    });
    let servers = vec![front, storage, monitor];
    S3 { _servers: servers, address, scheme: "http", access_key: ACCESS_KEY, secret_key: SECRET_KEY, scratch }
}

fn command(folder: &Path, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env("CEPH_CONF", folder.join("ceph.conf")).args(arguments);
    command
}

fn run(folder: &Path, program: &str, arguments: &[&str]) {
    let output = command(folder, program, arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; hint: run scripts/setup"));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} failed:\n{message}");
}

fn daemon(folder: &Path, program: &str, arguments: &[&str]) -> Server {
    let log = folder.join(format!("{program}.out"));
    Server::spawn(command(folder, program, arguments).arg("-f"), &log, Signal::KILL)
}
