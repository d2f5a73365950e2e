//! Asking a store whether its put-if-absent holds (R2).
//!
//! Stores that speak S3 differ here, whatever their names: some overwrite although they were told not to, some
//! let several of many puts at the same moment win. Only trying it tells.

use bytes::Bytes;
use futures_util::future::join_all;

use crate::body::Body;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Key;
use crate::store::{Put, Store};

/// How many puts race for one name.
const RACERS: usize = 16;

/// How many races are run: one that is lost by luck alone is not believed, and connections are only warm after the
/// first.
const RACES: usize = 3;

/// Length of each racing body: long enough that writing it takes the store some time.
const RACER_BYTES: usize = 64 * 1024;

/// Proves that puts on an existing name change nothing, and that of many puts at once on a new name exactly one wins
/// and its body is what is kept.
///
/// `prefix` is where the trial objects go: empty, or the text of a key followed by `/`. They are removed again; where
/// deleting is not allowed they stay behind.
///
/// # Errors
/// [`ErrorKind::Unsafe`] when the promise is broken; else whatever kept the trial from being carried out.
pub async fn prove_conditional_put(store: &dyn Store, prefix: &str) -> Result<()> {
    let trial = format!("{prefix}trial-{:016x}", rand::random::<u64>());
    second_put(store, &format!("{trial}.0").parse()?).await?;
    for race in 1..=RACES {
        many_at_once(store, &format!("{trial}.{race}").parse()?).await?;
    }
    Ok(())
}

async fn second_put(store: &dyn Store, key: &Key) -> Result<()> {
    let tried = try_second_put(store, key).await;
    clean_up(store, key, tried).await
}

async fn try_second_put(store: &dyn Store, key: &Key) -> Result<()> {
    let (first, second) = (Bytes::from_static(b"first"), Bytes::from_static(b"second"));
    // The answer is Exists when the first try's answer was lost; what is kept decides.
    let _ = store.put_if_absent(key, &first.clone().into()).await?;
    let answer = store.put_if_absent(key, &second.into()).await?;
    if store.get(key).await? != first {
        return Err(not_safe(store, key, "a second put on the same name has overwritten the first"));
    }
    match answer {
        Put::Exists => Ok(()),
        Put::Created => {
            Err(not_safe(store, key, "a second put on the same name was said to have made the object"))
        }
    }
}

async fn many_at_once(store: &dyn Store, key: &Key) -> Result<()> {
    let tried = try_many_at_once(store, key).await;
    clean_up(store, key, tried).await
}

async fn try_many_at_once(store: &dyn Store, key: &Key) -> Result<()> {
    let body = |racer: usize| Bytes::from(vec![racer as u8; RACER_BYTES]);
    let bodies: Vec<Body> = (0..RACERS).map(|racer| body(racer).into()).collect();
    let answers = join_all(bodies.iter().map(|body| store.put_if_absent(key, body))).await;
    let answers = answers.into_iter().collect::<Result<Vec<Put>>>()?;
    let winners: Vec<usize> = (0..RACERS).filter(|racer| answers[*racer] == Put::Created).collect();
    let kept = store.get(key).await?;
    match winners.as_slice() {
        [winner] if kept == body(*winner) => Ok(()),
        [_] => Err(not_safe(store, key, "of 16 puts at once one won, but another one's body was kept")),
        // The winner's first answer was lost, and its second try found its own object.
        [] if (0..RACERS).any(|racer| kept == body(racer)) => Ok(()),
        [] => Err(not_safe(store, key, "of 16 puts at once none won, and what is kept is of none of them")),
        several => {
            let message =
                format!("of 16 puts at once on a new name {} were told that they made it", several.len());
            Err(not_safe(store, key, &message))
        }
    }
}

/// Removes the trial object, whatever the trial gave.
async fn clean_up(store: &dyn Store, key: &Key, tried: Result<()>) -> Result<()> {
    let cleaned = match store.delete(key).await {
        // Where nothing may be deleted a few small objects stay behind.
        Err(error) if error.kind == ErrorKind::Denied => Ok(()),
        cleaned => cleaned,
    };
    tried.and(cleaned)
}

fn not_safe(store: &dyn Store, key: &Key, what: &str) -> Error {
    Error::new(
        ErrorKind::Unsafe,
        "prove",
        key.as_str(),
        format!(
            "{}: {what}: this store would let one host destroy another's backup. hint: use a store that honours \
             If-None-Match (Amazon S3, Ceph, MinIO), or allow this one by name if nobody else will ever write to it",
            store.url()
        ),
    )
}
