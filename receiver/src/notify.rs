//! Words to systemd: that the service is ready, and that it is alive.
//!
//! The protocol is a datagram to the socket that `NOTIFY_SOCKET` names (`sd_notify(3)`).

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// The service manager, where there is one.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// None: nobody is told.
    pub fn none() -> Notifier {
        Notifier { socket: None, watchdog: None }
    }

    /// The one that started this process, as the environment tells.
    pub fn of_environment() -> Notifier {
        let variable = |name: &str| std::env::var(name).ok();
        let of_us = variable("WATCHDOG_PID").is_none_or(|id| id == std::process::id().to_string());
        let watchdog = variable("WATCHDOG_USEC").and_then(|micros| micros.parse().ok()).filter(|_| of_us);
        Notifier::at(variable("NOTIFY_SOCKET").as_deref(), watchdog.map(Duration::from_micros))
    }

    fn at(address: Option<&str>, watchdog: Option<Duration>) -> Notifier {
        let socket = address.and_then(|address| connect(address).ok());
        Notifier { socket, watchdog }
    }

    /// How often the manager wants to hear that we are alive: twice as often as it looks.
    pub fn interval(&self) -> Option<Duration> {
        self.socket.as_ref().and(self.watchdog).map(|watchdog| watchdog / 2)
    }

    /// WAL comes: what depends on us may start.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// We are alive.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// We are about to end.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// What we do, in a line for `systemctl status`.
    pub fn status(&self, line: &str) {
        self.send(&format!("STATUS={}", line.replace('\n', " ")));
    }

    fn send(&self, text: &str) {
        if let Some(socket) = &self.socket {
            // A manager that does not listen changes nothing for us.
            let _ = socket.send(text.as_bytes());
        }
    }
}

fn connect(address: &str) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match address.strip_prefix('@') {
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        }
        None => socket.connect(address)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_hears_each_word() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::at(path.to_str(), Some(Duration::from_secs(10)));
        assert_eq!(notifier.interval(), Some(Duration::from_secs(5)));
        notifier.ready();
        notifier.status("a\nb");
        notifier.alive();
        notifier.stopping();
        let mut buffer = [0; 100];
        for expected in ["READY=1", "STATUS=a b", "WATCHDOG=1", "STOPPING=1"] {
            let length = manager.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
        // Without a manager nothing happens.
        for nobody in [Notifier::none(), Notifier::at(Some("/does/not/exist"), None)] {
            nobody.ready();
            assert_eq!(nobody.interval(), None);
        }
    }
}
