//! How the proxy resolves and connects. One implementation for the product; tests put
//! another in its place to be a public internet on one machine.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::net::TcpStream;

type Answer<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

pub trait Dialer: Send + Sync + std::fmt::Debug {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Answer<'a, Vec<SocketAddr>>;
    fn connect(&self, to: SocketAddr) -> Answer<'_, TcpStream>;
}

/// The system's resolver and its routes.
#[derive(Debug, Default)]
pub struct SystemDialer;

impl Dialer for SystemDialer {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Answer<'a, Vec<SocketAddr>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }

    fn connect(&self, to: SocketAddr) -> Answer<'_, TcpStream> {
        Box::pin(TcpStream::connect(to))
    }
}
