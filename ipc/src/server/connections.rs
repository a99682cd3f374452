//! The connections of a server: how many there may be, and what `status` shows of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use tokio::net::UnixStream;

use super::{Handler, Serving};
use crate::client::Options;
use crate::conn::{Core, End, drive, lock};
use crate::error::{Refusal, ServeError};
use crate::handshake;
use crate::limits::CONNECTIONS_MAX;
use crate::protocol::{Ident, Protocol};
use crate::wire::engine::ConnectionInfo;

/// The connections a server has: the cap, and what `status` shows.
#[derive(Clone)]
pub struct Connections(Arc<Registry>);

struct Registry {
    max: usize,
    table: Mutex<(u64, HashMap<u64, Weak<Core>>)>,
}

impl Default for Connections {
    fn default() -> Self {
        Self::new(CONNECTIONS_MAX)
    }
}

/// One place among the connections, from before the handshake to the end.
struct Seat {
    registry: Arc<Registry>,
    number: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.registry.table).1.remove(&self.number);
    }
}

/// Ends the connection when the future that serves it is dropped.
struct EndOnDrop(Arc<Core>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.finish(End::Local("the server stopped serving".into()));
        self.0.gone().cancel();
    }
}

impl Connections {
    /// At most `max` at a time; more are refused with a message.
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Registry { max, table: Mutex::default() }))
    }

    /// As [`super::serve`], counted and listed.
    pub async fn serve<P, H>(
        &self,
        stream: UnixStream,
        ident: Ident,
        options: Options,
        handler: Arc<H>,
    ) -> Result<(), ServeError>
    where
        P: Protocol,
        H: Handler<P>,
    {
        let (seat, refuse) = self.seat();
        let link = handshake::accept::<P>(stream, &ident, &options, refuse).await?;
        let (core, inputs) = Core::new(link, &options);
        let core = Arc::new(core);
        lock(&self.0.table).1.insert(seat.number, Arc::downgrade(&core));
        let guard = EndOnDrop(Arc::clone(&core));
        let role = Serving::<P, H>::new(&core, handler);
        let end = drive(&core, &role, inputs).await?;
        drop(guard);
        role.tasks.close();
        role.tasks.wait().await;
        drop(seat);
        match end {
            End::Broken(violation) => {
                tracing::warn!(
                    session = %core.peer().session,
                    peer = %core.peer().name,
                    pid = core.peer().pid,
                    "connection closed: peer broke the protocol: {violation}"
                );
                Err(violation.into())
            }
            End::Left(how) | End::Local(how) => {
                tracing::debug!(session = %core.peer().session, "connection closed: {how}");
                Ok(())
            }
        }
    }

    /// Takes a place; beyond the last one there is a reason to refuse.
    fn seat(&self) -> (Seat, Option<(Refusal, String)>) {
        let mut table = lock(&self.0.table);
        let taken = table.1.len();
        table.0 += 1;
        let number = table.0;
        table.1.insert(number, Weak::new());
        let refuse = (taken >= self.0.max).then(|| {
            let text = format!(
                "{taken} connections are open, which is all this server takes; close some windows"
            );
            (Refusal::Busy, text)
        });
        (Seat { registry: Arc::clone(&self.0), number }, refuse)
    }

    /// Connections that are open now.
    pub fn len(&self) -> usize {
        lock(&self.0.table).1.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn snapshot(&self) -> Vec<ConnectionInfo> {
        let mut cores: Vec<_> =
            lock(&self.0.table).1.iter().filter_map(|(n, c)| Some((*n, c.upgrade()?))).collect();
        cores.sort_by_key(|(number, _)| *number);
        cores.iter().map(|(_, core)| core.info()).collect()
    }
}
