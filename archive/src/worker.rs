//! A process beside the command that keeps connections and uploads what PostgreSQL will ask for next.
//!
//! It is the command's own binary (`--worker`), started by a call and ended a minute after the last one. What it knows lies
//! in memory alone, WAL is never copied, and it never says that a file is durable but for the very file that the call has
//! before it.

use std::sync::Arc;
use std::thread;

use highwater_repository::Config;
use highwater_worker::{Connection, Place, SILENCE, Server, State};

use crate::ask::{self, Call, Request};
use crate::connected;
use crate::error::Error;
use crate::job::Job;
use crate::uploads::{IDLE, Uploads, Work};

/// Is the worker for the calls that archive the files beside this one, until nobody asks any more.
///
/// # Errors
/// Why it cannot be. Nobody reads that: the calls do without.
pub fn work(call: &Call) -> Result<(), Error> {
    Server::leave_session();
    let config = Config::load(call.config.as_deref())?;
    let cluster = config.cluster(call.cluster.as_ref())?.clone();
    let job = Job::new(&cluster, &call.path)?;
    let system = Error::Worker;
    let request = Request::new(&job, &call.path).map_err(system)?;
    drop(job);
    let own = ask::of_worker(&config, &cluster, &request);
    let place = Place::of_user().map_err(system)?;
    let Some(server) = Server::open(&place, &own).map_err(system)? else { return Ok(()) };

    let connect = connected::all(config.repositories, cluster.name.clone(), request.system_id);
    let uploads = Uploads::new(Work {
        cluster,
        folder: request.folder,
        system_id: request.system_id,
        connect,
        received: None,
        encoders: thread::available_parallelism().map_or(1, |count| count.get()),
    })
    .map_err(system)?;
    let state = {
        let uploads = Arc::clone(&uploads);
        move || if uploads.is_busy() { State::Busy } else { State::Waiting }
    };
    server.serve(IDLE, state, move |connection| serve(&uploads, connection)).map_err(system)
}

fn serve(uploads: &Arc<Uploads>, mut connection: Connection) {
    let Ok(request) = connection.receive::<Request>(SILENCE) else { return };
    let reply = uploads.make_durable(&request, || connection.send_sign_of_life().is_ok());
    // A caller that has gone asks again.
    let _ = connection.send(&reply);
    uploads.go_ahead();
}
