//! iceoryx2's request-response as a baseline, payload copied out on both sides as ours is.

use anyhow::{Result, anyhow};
use iceoryx2::port::client::Client as Port;
use iceoryx2::port::server::Server;
use iceoryx2::prelude::*;

use super::links::{answers, fill, sum};
use super::machine::{Peer, Place};

type Service = ipc::Service;
type Pending = iceoryx2::pending_response::PendingResponse<Service, [u8], (), [u8], ()>;

pub struct Client {
    port: Port<Service, [u8], (), [u8], ()>,
    pending: Option<Pending>,
    copy: Vec<u8>,
    _node: Node<Service>,
}

fn err(error: impl std::fmt::Debug) -> anyhow::Error {
    anyhow!("iceoryx2: {error:?}")
}

fn name(parent: u32) -> Result<ServiceName> {
    format!("lapce-ai-bench-{parent}").as_str().try_into().map_err(err)
}

const LARGEST: usize = 16 << 20;

impl Client {
    pub fn start(place: Place, counts: (usize, usize)) -> Result<(Self, Peer)> {
        let node = NodeBuilder::new().create::<Service>().map_err(err)?;
        let service = node
            .service_builder(&name(std::process::id())?)
            .request_response::<[u8], [u8]>()
            .max_active_requests_per_client(16)
            .enable_safe_overflow_for_requests(false)
            .open_or_create()
            .map_err(err)?;
        let peer = Peer::start("iceoryx2", place, counts, &[], false)?;
        let port = service
            .client_builder()
            .initial_max_slice_len(counts.0.clamp(64, LARGEST))
            .create()
            .map_err(err)?;
        // Until the server is there a request has no receiver.
        while service.dynamic_config().number_of_servers() == 0 {
            std::thread::yield_now();
        }
        Ok((Self { port, pending: None, copy: Vec::new(), _node: node }, peer))
    }

    pub fn push(&mut self, payload: &[u8]) -> Result<()> {
        loop {
            match self.port.loan_slice_uninit(payload.len()) {
                Ok(request) => {
                    self.pending = Some(request.write_from_slice(payload).send().map_err(err)?);
                    return Ok(());
                }
                // As many requests as may be open; the server is at work.
                Err(_) => std::hint::spin_loop(),
            }
        }
    }

    pub fn answer(&mut self) -> Result<u64> {
        let pending = self.pending.take().ok_or_else(|| anyhow!("nothing asked"))?;
        loop {
            if let Some(response) = pending.receive().map_err(err)? {
                self.copy.clear();
                self.copy.extend_from_slice(response.payload());
                return Ok(sum(&self.copy));
            }
            std::hint::spin_loop();
        }
    }

    pub fn round_trip(&mut self, payload: &[u8]) -> Result<u64> {
        self.push(payload)?;
        self.answer()
    }
}

pub fn serve(messages: usize) -> Result<()> {
    let node = NodeBuilder::new().create::<Service>().map_err(err)?;
    // SAFETY: plain system call.
    let parent = unsafe { libc::getppid() }.cast_unsigned();
    let service = node
        .service_builder(&name(parent)?)
        .request_response::<[u8], [u8]>()
        .open()
        .map_err(err)?;
    let server: Server<Service, [u8], (), [u8], ()> =
        service.server_builder().initial_max_slice_len(LARGEST).create().map_err(err)?;
    let (mut copy, mut total, mut seen) = (Vec::new(), 0u64, 0);
    loop {
        let Some(request) = server.receive().map_err(err)? else {
            std::hint::spin_loop();
            continue;
        };
        copy.clear();
        copy.extend_from_slice(request.payload());
        total = std::hint::black_box(total.wrapping_add(sum(&copy)));
        seen += 1;
        if answers(messages, seen) {
            fill(&mut copy, seen);
            let response = request.loan_slice_uninit(copy.len()).map_err(err)?;
            response.write_from_slice(&copy).send().map_err(err)?;
        }
    }
}
