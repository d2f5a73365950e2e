//! Holding a put back until another one is done.

use std::future::pending;

use tokio::sync::watch;

/// What a put may have to wait for, so that objects come to be in an order though they are sent at the same time:
/// whoever waits behind it has sent everything but the end when it opens.
///
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
/// let (keeper, gate) = highwater_storage::gate();
/// keeper.open();
/// runtime.block_on(gate.opened());
///
/// let (keeper, gate) = highwater_storage::gate();
/// drop(keeper);
/// runtime.block_on(gate.lost());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Gate(watch::Receiver<bool>);

/// Who opens a [`Gate`]. When it is dropped before, the gate stays shut for ever.
#[derive(Debug)]
pub struct GateKeeper(watch::Sender<bool>);

/// A gate that is shut, and its keeper.
pub fn gate() -> (GateKeeper, Gate) {
    let (sender, receiver) = watch::channel(false);
    (GateKeeper(sender), Gate(receiver))
}

impl GateKeeper {
    /// Lets everybody through.
    pub fn open(&self) {
        // That nobody waits any longer is fine.
        let _ = self.0.send(true);
    }
}

impl Gate {
    /// Waits until it is open: for ever, when it will not open any more.
    pub async fn opened(&self) {
        if self.0.clone().wait_for(|is_open| *is_open).await.is_err() {
            pending::<()>().await;
        }
    }

    /// Waits until it is known that it will never open: for ever, when it is open.
    pub async fn lost(&self) {
        if self.0.clone().wait_for(|is_open| *is_open).await.is_ok() {
            pending::<()>().await;
        }
    }
}
