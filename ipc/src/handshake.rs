//! From a connected socket to two mapped rings, or to a clear refusal.
//!
//! The client speaks first: a hello with its memory and its eventfd attached. The server
//! answers with its own, or with a refusal that says why in words. Each side checks user,
//! version, schema, capacities, seals and sizes before it maps anything.

mod exchange;

use std::io;
#[cfg(feature = "portable")]
use std::os::fd::AsFd;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use tokio::net::UnixStream;
use tokio::time::timeout;

use exchange::{receive, send};

use crate::client::{Options, Transport};
use crate::error::{ConnectError, Refusal};
use crate::hello::{Hello, Role, reason_code, reason_from};
use crate::limits::{HELLO_TIMEOUT, PROTOCOL_MAX, PROTOCOL_MIN};
use crate::paths::current_uid;
use crate::protocol::{Ident, Protocol};
use crate::ring::Capacity;
use crate::ring::region::{Mine, Peers};
use crate::server::Peer;
use crate::sys::eventfd::EventFd;
use crate::sys::socket::{Credentials, peer_credentials};
use crate::sys::wake::Wake;
use crate::sys::{self, memfd};

/// What both sides agreed on.
pub(crate) struct Link {
    pub mine: Mine,
    pub peers: Peers,
    /// I wait on this one; absent where wakes come over the socket.
    pub wait: Option<EventFd>,
    /// I wake the peer with this one.
    pub wake: Wake,
    pub peer: Peer,
    pub socket: UnixStream,
    pub pending: Pending,
}

/// What must stay until the peer has opened our memory: its name, if it has one.
#[cfg(feature = "portable")]
pub(crate) type Pending = Option<sys::shm::Name>;
#[cfg(not(feature = "portable"))]
pub(crate) type Pending = Option<std::convert::Infallible>;

const MEMFD: u8 = 0;
const PORTABLE: u8 = 1;

/// Our half of the memory, before anybody else knows it.
struct Half {
    mine: Mine,
    offer: Offer,
}

/// How the peer gets at it.
enum Offer {
    Sealed {
        memory: [OwnedFd; 2],
        wait: EventFd,
    },
    #[cfg(feature = "portable")]
    Named(sys::shm::Name),
}

impl Offer {
    fn fds(&self) -> Vec<RawFd> {
        match self {
            Self::Sealed { memory: [words, rings], wait } => {
                vec![words.as_raw_fd(), rings.as_raw_fd(), wait.as_raw_fd()]
            }
            #[cfg(feature = "portable")]
            Self::Named(_) => Vec::new(),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Sealed { .. } => String::new(),
            #[cfg(feature = "portable")]
            Self::Named(name) => name.0.clone(),
        }
    }

    fn into_parts(self) -> (Option<EventFd>, Pending) {
        match self {
            Self::Sealed { wait, .. } => (Some(wait), None),
            #[cfg(feature = "portable")]
            Self::Named(name) => (None, Some(name)),
        }
    }
}

fn half(options: &Options, transport: Transport) -> io::Result<Half> {
    let capacity = Capacity { control: options.control_ring, bulk: options.bulk_ring };
    if !capacity.valid() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("ring sizes {} and {}", capacity.control, capacity.bulk),
        ));
    }
    match transport {
        Transport::Memfd => {
            let (region, memory) = memfd::create(capacity.region())?;
            // SAFETY: freshly made and sealed: this mapping of the rings is the only writable
            // one there will ever be. The peer could write to the words; `Mine` never reads
            // them, and stores atomically.
            let mine = unsafe { Mine::new(region, capacity) };
            Ok(Half { mine, offer: Offer::Sealed { memory, wait: EventFd::new()? } })
        }
        #[cfg(feature = "portable")]
        Transport::Portable => {
            let (region, name) = sys::shm::create(capacity.region())?;
            // SAFETY: freshly made under a random name of which only the peer will know.
            // The peer could write to it; `Mine` never reads what it wrote.
            let mine = unsafe { Mine::new(region, capacity) };
            Ok(Half { mine, offer: Offer::Named(name) })
        }
        #[cfg(not(feature = "portable"))]
        Transport::Portable => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this build has no portable transport (feature `portable`)",
        )),
    }
}

fn code(transport: Transport) -> u8 {
    match transport {
        Transport::Memfd => MEMFD,
        Transport::Portable => PORTABLE,
    }
}

fn hello<P: Protocol>(role: Role, ident: &Ident, options: &Options, session: [u8; 16]) -> Hello {
    Hello {
        version_min: PROTOCOL_MIN,
        version_max: PROTOCOL_MAX,
        role,
        reason: 0,
        transport: MEMFD,
        schema: P::SCHEMA,
        features: 0,
        control: options.control_ring,
        bulk: options.bulk_ring,
        session,
        protocol: P::NAME.into(),
        name: ident.name.clone(),
        version: ident.version.clone(),
        memory: String::new(),
        message: String::new(),
    }
}

/// The client's half of the handshake.
pub(crate) async fn connect<P: Protocol>(
    socket: UnixStream,
    ident: &Ident,
    options: &Options,
) -> Result<Link, ConnectError> {
    let exchange = async {
        let credentials = same_user(&socket)?;
        let half = half(options, options.transport)?;
        let mut ours = hello::<P>(Role::Client, ident, options, [0; 16]);
        ours.transport = code(options.transport);
        ours.memory = half.offer.name();
        let fds = half.offer.fds();
        // A server that refuses at once may have hung up before it read our hello; what
        // it said is then still there to be read, and says more than a broken pipe.
        let sent = send(&socket, &ours, &fds).await;
        let (theirs, fds) = match (receive(&socket).await, sent) {
            (Ok(answer), _) => answer,
            (Err(_), Err(error)) => return Err(error.into()),
            (Err(error), Ok(())) => return Err(error),
        };
        let peer_name = format!("{} {}", theirs.name, theirs.version);
        match theirs.role {
            Role::Refuse => {
                return Err(ConnectError::Refused {
                    peer: peer_name,
                    message: theirs.message,
                    reason: reason_from(theirs.reason),
                });
            }
            Role::Client => {
                return Err(ConnectError::Handshake("the other side is a client too".into()));
            }
            Role::Accept => {}
        }
        agree::<P>(&theirs, ident).map_err(|(reason, message)| ConnectError::Refused {
            peer: peer_name,
            message,
            reason,
        })?;
        let (peers, wake) =
            memory(&socket, &theirs, fds).map_err(|e| ConnectError::Handshake(e.to_string()))?;
        if theirs.transport != code(options.transport) {
            return Err(ConnectError::Handshake(format!(
                "transport {} was not asked for",
                theirs.transport
            )));
        }
        // Where names matter: our memory is mapped over there, theirs is here.
        if options.transport == Transport::Portable {
            wake.wake();
        }
        let peer = peer_of(&theirs, credentials, theirs.session);
        Ok((half, peers, wake, peer))
    };
    let (half, peers, wake, peer) = timeout(HELLO_TIMEOUT, exchange)
        .await
        .map_err(|_| ConnectError::Timeout(HELLO_TIMEOUT))??;
    let (wait, pending) = half.offer.into_parts();
    Ok(Link { mine: half.mine, peers, wait, wake, peer, socket, pending })
}

/// The server's half. `refuse` turns the peer away before anything is mapped.
pub(crate) async fn accept<P: Protocol>(
    socket: UnixStream,
    ident: &Ident,
    options: &Options,
    refuse: Option<(Refusal, String)>,
) -> Result<Link, ConnectError> {
    let exchange = async {
        let credentials = peer_credentials(&socket)?;
        let turn_away = async |peer: String, reason: Refusal, message: String| {
            let mut no = hello::<P>(Role::Refuse, ident, options, [0; 16]);
            no.reason = reason_code(reason);
            no.message.clone_from(&message);
            // The peer may be gone already; the reason is in our error either way.
            let _ = send(&socket, &no, &[]).await;
            ConnectError::Refused { peer, message, reason }
        };
        if let Err(error) = same_user(&socket) {
            let who = format!("uid {}", credentials.uid);
            return Err(turn_away(who, Refusal::User, error.to_string()).await);
        }
        let (theirs, fds) = receive(&socket).await?;
        let peer_name = format!("{} {}", theirs.name, theirs.version);
        if theirs.role != Role::Client {
            return Err(ConnectError::Handshake(format!(
                "{peer_name} did not say hello as a client"
            )));
        }
        if let Some((reason, message)) = refuse {
            return Err(turn_away(peer_name, reason, message).await);
        }
        if let Err((reason, message)) = agree::<P>(&theirs, ident) {
            return Err(turn_away(peer_name, reason, message).await);
        }
        let (peers, wake) = match memory(&socket, &theirs, fds) {
            Ok(both) => both,
            Err(error) => {
                return Err(turn_away(peer_name, Refusal::Memory, error.to_string()).await);
            }
        };
        let transport =
            if theirs.transport == PORTABLE { Transport::Portable } else { Transport::Memfd };
        let half = half(options, transport)?;
        let mut session = [0; 16];
        sys::random(&mut session)?;
        let mut ours = hello::<P>(Role::Accept, ident, options, session);
        ours.transport = theirs.transport;
        ours.memory = half.offer.name();
        send(&socket, &ours, &half.offer.fds()).await?;
        Ok((half, peers, wake, peer_of(&theirs, credentials, session)))
    };
    let (half, peers, wake, peer) = timeout(HELLO_TIMEOUT, exchange)
        .await
        .map_err(|_| ConnectError::Timeout(HELLO_TIMEOUT))??;
    let (wait, pending) = half.offer.into_parts();
    Ok(Link { mine: half.mine, peers, wait, wake, peer, socket, pending })
}

fn same_user(socket: &UnixStream) -> Result<Credentials, ConnectError> {
    let credentials = peer_credentials(socket)?;
    let me = current_uid();
    if credentials.uid == me {
        return Ok(credentials);
    }
    Err(ConnectError::Handshake(format!(
        "the other side runs as user {}, this side as {me}; only the same user may connect",
        credentials.uid
    )))
}

fn agree<P: Protocol>(theirs: &Hello, ident: &Ident) -> Result<(), (Refusal, String)> {
    let them = format!("{} {}", theirs.name, theirs.version);
    let advice = "install matching programs and stop the running engine (lapce-ai stop)";
    if theirs.version_min > PROTOCOL_MAX || theirs.version_max < PROTOCOL_MIN {
        return Err((
            Refusal::Version,
            format!(
                "{them} speaks ring protocol {}..={}, {ident} speaks {PROTOCOL_MIN}..={PROTOCOL_MAX}; {advice}",
                theirs.version_min, theirs.version_max
            ),
        ));
    }
    if theirs.protocol != P::NAME {
        return Err((
            Refusal::Protocol,
            format!("{them} wants to speak {:?}, {ident} speaks {:?}", theirs.protocol, P::NAME),
        ));
    }
    if theirs.schema != P::SCHEMA {
        return Err((
            Refusal::Schema,
            format!(
                "{them} and {ident} are of different builds (message schema {:016x} and {:016x}); {advice}",
                theirs.schema,
                P::SCHEMA
            ),
        ));
    }
    Ok(())
}

/// Checks and maps what the peer sent.
fn memory(socket: &UnixStream, theirs: &Hello, fds: Vec<OwnedFd>) -> io::Result<(Peers, Wake)> {
    let bad = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    let capacity = Capacity { control: theirs.control, bulk: theirs.bulk };
    if !capacity.valid() {
        return Err(bad(format!("ring sizes {} and {}", theirs.control, theirs.bulk)));
    }
    #[cfg(feature = "portable")]
    if theirs.transport == PORTABLE {
        if !fds.is_empty() {
            return Err(bad(format!("{} descriptors instead of none", fds.len())));
        }
        let region = sys::shm::open(&theirs.memory, capacity.region())?;
        // SAFETY: mapped for reading. That it does not shrink is the peer's word only; it
        // is the user's own program, and `docs/ring.md` names this limit.
        let peers = unsafe { Peers::new(region, capacity) };
        return Ok((peers, Wake::Socket(socket.as_fd().try_clone_to_owned()?)));
    }
    #[cfg(not(feature = "portable"))]
    let _ = socket;
    if theirs.transport != MEMFD {
        return Err(bad(format!("transport {}, which this build does not have", theirs.transport)));
    }
    let [words, rings, event]: [OwnedFd; 3] = fds
        .try_into()
        .map_err(|fds: Vec<_>| bad(format!("{} descriptors instead of 3", fds.len())))?;
    let region = memfd::open(&[words, rings], capacity.region())?;
    // SAFETY: mapped for reading at least, and sealed against shrinking (checked by `open`).
    let peers = unsafe { Peers::new(region, capacity) };
    Ok((peers, Wake::Event(EventFd::from_peer(event)?)))
}

fn peer_of(theirs: &Hello, credentials: Credentials, session: [u8; 16]) -> Peer {
    use std::fmt::Write as _;
    let mut hex = String::with_capacity(32);
    for byte in session {
        let _ = write!(hex, "{byte:02x}");
    }
    Peer {
        pid: credentials.pid,
        uid: credentials.uid,
        name: theirs.name.clone(),
        version: theirs.version.clone(),
        session: hex,
    }
}
