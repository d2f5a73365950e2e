//! docs/RECOVERY.md, command by command, on a cluster to which that has happened.

use std::fs;
use std::path::PathBuf;

use highwater_tests::{Postgres, Site, StopMode};

use crate::documents::{Document, Story, words};
use crate::restores::{archiving, back_up, recovered};

const ORDERS: &str = "select count(*) || ' ' || sum(amount) from public.orders";

#[test]
fn the_guide_leads_from_something_is_gone_to_it_is_back() {
    let site = Site::on_folder();
    let server = archiving(&site, Postgres::builder());
    server.sql("create table orders (id int, amount numeric); create table other (n int)");
    server.sql("insert into orders select n, n from generate_series(1, 5000) n");
    back_up(&site);
    server.sql("insert into orders select n, n from generate_series(5001, 6000) n");
    let whole = server.value(ORDERS);
    let moment = server.now();
    server.sql("insert into other values (1)");
    let xid = server.value(
        "with gone as (delete from orders returning 1) select txid_current()::text from (select count(*) from gone) as g",
    );
    server.sql("insert into other values (2)");
    server.sql("insert into orders values (1, 7)");
    let before_drop = server.value(ORDERS);
    server.sql("drop table orders");
    server.sql("insert into other values (3)");
    server.archive_now();

    let [table, rows, time] = ["table", "rows", "time"].map(|name| site.path(name));
    let cluster = server.data_dir().to_owned();
    let place = |path: &PathBuf| path.display().to_string();
    let instead = vec![
        ("/srv/restored", place(&table)),
        ("/srv/restored-rows", place(&rows)),
        ("/srv/restored-time", place(&time)),
        ("/var/lib/postgresql/15/main", place(&cluster)),
        ("745", xid),
        ("2026-11-20 11:15:59", moment),
    ];
    let story = Story { site, instead };
    let guide = Document::open("RECOVERY.md");
    let run = |section: &str| story.run_all(&guide.commands(section));
    assert_eq!(run("2."), 7);
    assert_eq!(run("3."), 2);
    assert_eq!(run("4."), 4);
    server.stop(StopMode::Fast);
    for (folder, expected) in [(&table, &before_drop), (&rows, &whole), (&time, &whole)] {
        assert_eq!(&recovered(folder).value(ORDERS), expected, "{}", folder.display());
    }

    fs::rename(&cluster, story.site.path("moved-away")).unwrap();
    let [commands @ .., check, backup] = &guide.commands("6.")[..] else {
        panic!("section 6 has lost its commands")
    };
    story.run_all(commands);
    let taken_over = recovered(&cluster);
    assert_eq!(taken_over.column("select n from other order by n"), ["1", "2", "3"]);
    for setting in taken_over.column(
        "select name from pg_settings where name like 'recovery_target_%' and source = 'configuration file'",
    ) {
        taken_over.sql(&format!("alter system reset {setting}"));
    }
    taken_over.sql("select pg_reload_conf()");
    let connection = taken_over.connection_string();
    for command in [check, backup] {
        let words = words(command);
        let run = story.site.highwater(&words[1..]).env("HIGHWATER_CLUSTER_MAIN_CONNECTION", &connection);
        run.run().succeeds();
    }
    assert_eq!(run("8."), 1);
}
