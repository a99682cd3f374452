//! The host's side of a granted network: the only way out of a call's empty network
//! namespace, and it sees the name of every host.
//!
//! The helper hands over listeners that live in the namespace ([`crate::sandbox::inlet`]);
//! [`Gate::serve`] accepts on them here. The first one, when hosts are granted, is an HTTP
//! proxy (`CONNECT`, and plain `http://`); each of the others is a port of this machine.
//! Names are resolved here, once, and the address that was judged is the one connected to.
//! Everything ends when the future of `serve` is dropped.

mod dial;
mod http;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use dial::{Dialer, SystemDialer};

use crate::limits::{
    PROXY_CONNECT_MS, PROXY_HEAD_BYTES, PROXY_HEAD_MS, PROXY_MAX_CONNECTIONS, PROXY_MAX_REFUSED,
};
use crate::sandbox::network::{self, Network};
use crate::sandbox::sys;

/// One call's way out.
#[derive(Debug)]
pub struct Gate {
    network: Network,
    dialer: Arc<dyn Dialer>,
    /// Our end of the pair over which the listeners come.
    ours: std::os::unix::net::UnixStream,
    /// The helper's end; taken when it is started.
    theirs: Option<OwnedFd>,
    refused: Refused,
}

/// What was asked for and not granted, for the call's result; a bounded set.
#[derive(Debug, Clone, Default)]
pub struct Refused(Arc<Mutex<BTreeSet<String>>>);

impl Refused {
    fn add(&self, what: String) {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if set.len() < PROXY_MAX_REFUSED {
            set.insert(what);
        }
    }

    /// What was refused since the last look.
    pub fn take(&self) -> Vec<String> {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *set).into_iter().collect()
    }
}

impl Gate {
    /// `None` when nothing is granted: then nothing is made.
    pub fn open(network: &Network, dialer: Arc<dyn Dialer>) -> io::Result<Option<Self>> {
        if network.is_off() {
            return Ok(None);
        }
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok(Some(Self {
            network: network.clone(),
            dialer,
            ours,
            theirs: Some(theirs.into()),
            refused: Refused::default(),
        }))
    }

    /// The descriptor that the helper must have as its number 3; once.
    pub(crate) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.theirs.take()
    }

    pub fn refused(&self) -> Refused {
        self.refused.clone()
    }

    /// Serves until dropped. Returns only when the helper made no listeners.
    pub async fn serve(self) -> io::Result<()> {
        let Self { network, dialer, ours, theirs, refused } = self;
        drop(theirs);
        let socket = UnixStream::from_std(ours)?;
        let most = network.ports().len() + 1;
        let listeners = receive(&socket, most).await?;
        let network = Arc::new(network);
        let doorman = Arc::new(tokio::sync::Mutex::new(socket));
        let permits = Arc::new(Semaphore::new(PROXY_MAX_CONNECTIONS));
        let mut accepting = JoinSet::new();
        let mut ports = network.ports().iter().copied();
        for (n, listener) in listeners.into_iter().enumerate() {
            let listener = std::net::TcpListener::from(listener);
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            let way = if n == 0 && network.has_hosts() {
                Way::Proxy(network.clone(), dialer.clone(), refused.clone())
            } else {
                match ports.next() {
                    Some(port) => Way::Port(port),
                    None => break,
                }
            };
            accepting.spawn(accept(listener, way, permits.clone()));
        }
        for port in network.listen() {
            match TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, *port)).await {
                Ok(listener) => {
                    let way = Way::Inside(*port, doorman.clone());
                    accepting.spawn(accept(listener, way, permits.clone()));
                }
                Err(e) => refused.add(format!("listen:{port} ({e})")),
            }
        }
        drop(doorman);
        while accepting.join_next().await.is_some() {}
        Ok(())
    }
}

/// Where a listener's connections go.
#[derive(Clone)]
enum Way {
    Proxy(Arc<Network>, Arc<dyn Dialer>, Refused),
    Port(u16),
    /// To what listens at this port inside.
    Inside(u16, Arc<tokio::sync::Mutex<UnixStream>>),
}

async fn accept(listener: TcpListener, way: Way, permits: Arc<Semaphore>) {
    let mut serving = JoinSet::new();
    loop {
        // Past the limit new connections wait in the kernel's queue.
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let accepted = loop {
            tokio::select! {
                accepted = listener.accept() => break accepted,
                Some(_) = serving.join_next() => {}
            }
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let way = way.clone();
        serving.spawn(async move {
            let _permit = permit;
            let _ = match way {
                Way::Proxy(network, dialer, refused) => {
                    Session { network, dialer, refused }.run(stream).await
                }
                Way::Port(port) => local(stream, port).await,
                Way::Inside(port, doorman) => inside(stream, port, &doorman).await,
            };
        });
    }
}

/// Joins a connection to a port of this machine.
async fn local(mut inside: TcpStream, port: u16) -> io::Result<()> {
    let here: [IpAddr; 2] =
        [std::net::Ipv4Addr::LOCALHOST.into(), std::net::Ipv6Addr::LOCALHOST.into()];
    for address in here {
        if let Ok(mut outside) = TcpStream::connect(SocketAddr::new(address, port)).await {
            tokio::io::copy_bidirectional(&mut inside, &mut outside).await?;
            return Ok(());
        }
    }
    // Dropped: the client sees a connection that is closed at once.
    Ok(())
}

/// Joins a connection to a port inside: the helper makes it and hands it out.
async fn inside(
    mut outside: TcpStream,
    port: u16,
    doorman: &tokio::sync::Mutex<UnixStream>,
) -> io::Result<()> {
    let mut made = {
        let mut socket = doorman.lock().await;
        socket.write_all(&port.to_le_bytes()).await?;
        receive(&socket, 1).await?
    };
    // Nobody listens there (yet): the client sees a connection that is closed at once.
    let Some(made) = made.pop() else { return Ok(()) };
    let made = std::net::TcpStream::from(made);
    made.set_nonblocking(true)?;
    let mut made = TcpStream::from_std(made)?;
    tokio::io::copy_bidirectional(&mut outside, &mut made).await.map(drop)
}

/// The descriptors of the next message.
async fn receive(socket: &UnixStream, most: usize) -> io::Result<Vec<OwnedFd>> {
    loop {
        socket.readable().await?;
        let got =
            socket.try_io(tokio::io::Interest::READABLE, || sys::receive_fds(socket.as_fd(), most));
        match got {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            got => return got,
        }
    }
}

struct Session {
    network: Arc<Network>,
    dialer: Arc<dyn Dialer>,
    refused: Refused,
}

impl Session {
    async fn run(self, mut client: TcpStream) -> io::Result<()> {
        let wait = Duration::from_millis(PROXY_HEAD_MS);
        let read = tokio::time::timeout(wait, read_head(&mut client)).await;
        let Ok(Ok((head, rest))) = read else {
            return answer(&mut client, "408 Request Timeout", "no request came").await;
        };
        let request = match http::Request::parse(&head) {
            Ok(request) => request,
            Err(why) => return answer(&mut client, "400 Bad Request", why).await,
        };
        let mut server = match self.reach(&request.host, request.port).await {
            Ok(server) => server,
            Err((status, why)) => return answer(&mut client, status, &why).await,
        };
        if request.connect {
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            server.write_all(&rest).await?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await?;
            return Ok(());
        }
        server.write_all(request.forward.as_bytes()).await?;
        // The body and no more: what follows may be meant for another host.
        let given = rest.len().min(usize::try_from(request.body).unwrap_or(usize::MAX));
        server.write_all(&rest[..given]).await?;
        let (from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let mut body = from_client.take(request.body - given as u64);
        let up = async {
            tokio::io::copy(&mut body, &mut to_server).await?;
            // The other direction ends the exchange.
            std::future::pending::<io::Result<()>>().await
        };
        tokio::select! {
            failed = up => failed,
            done = tokio::io::copy(&mut from_server, &mut to_client) => {
                done?;
                to_client.shutdown().await
            }
        }
    }

    /// A connection to a granted host, or the status and words of a refusal.
    async fn reach(&self, host: &str, port: u16) -> Result<TcpStream, (&'static str, String)> {
        let refuse = |why: String| {
            self.refused.add(format!("{host}:{port}"));
            Err(("403 Forbidden", why))
        };
        if !self.network.allows(host, port) {
            return refuse(format!(
                "{host}:{port} is not granted to this call (granted: {}). The user can grant it: \
                 name it in the call's parameter network, or in a rule of rules.toml",
                self.network
            ));
        }
        let literal = host.parse::<IpAddr>().ok();
        let wait = Duration::from_millis(PROXY_CONNECT_MS);
        let addresses = match literal {
            Some(address) => vec![SocketAddr::new(address, port)],
            None => match tokio::time::timeout(wait, self.dialer.resolve(host, port)).await {
                Ok(Ok(addresses)) => addresses,
                Ok(Err(e)) => {
                    return Err(("502 Bad Gateway", format!("{host} cannot be resolved: {e}")));
                }
                Err(_) => {
                    return Err((
                        "504 Gateway Timeout",
                        format!("{host} was not resolved in time"),
                    ));
                }
            },
        };
        // A name must lead to the public internet, an address written out to no place that
        // is never granted. What is judged here is what is connected to.
        let good = |a: &&SocketAddr| {
            if literal.is_some() { !network::never(a.ip()) } else { !network::private(a.ip()) }
        };
        let good: Vec<&SocketAddr> = addresses.iter().filter(good).take(4).collect();
        if good.is_empty() {
            return refuse(format!(
                "{host} leads to a private or local address, which a name cannot grant"
            ));
        }
        let mut last = String::new();
        for address in good {
            match tokio::time::timeout(wait, self.dialer.connect(*address)).await {
                Ok(Ok(server)) => return Ok(server),
                Ok(Err(e)) => last = e.to_string(),
                Err(_) => last = "it did not answer in time".into(),
            }
        }
        Err(("502 Bad Gateway", format!("{host}:{port} cannot be reached: {last}")))
    }
}

/// The head of a request, and what came after it.
async fn read_head(client: &mut TcpStream) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut head = Vec::new();
    let mut piece = [0; 2048];
    loop {
        let n = client.read(&mut piece).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let from = head.len().saturating_sub(3);
        head.extend_from_slice(&piece[..n]);
        if let Some(at) = head[from..].windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = head.split_off(from + at + 4);
            return Ok((head, rest));
        }
        if head.len() > PROXY_HEAD_BYTES {
            return Err(io::Error::other("the request's head is too long"));
        }
    }
}

async fn answer(client: &mut TcpStream, status: &str, why: &str) -> io::Result<()> {
    let body = format!("lapce-ai: {why}\n");
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await?;
    client.write_all(body.as_bytes()).await?;
    client.shutdown().await
}
