//! Who may write a shared index: one writer at a time, by leases that are created and never
//! taken away.
//!
//! Lease `n + 1` may be created when lease `n` has been given back, or has not been renewed
//! for [`LEASE_STALE`]. Creating is conditional, so of two who try one gets it. Whoever
//! holds the lease with the highest number is the writer.

use std::time::SystemTime;

use object_store::{ObjectStoreExt, PutPayload};

use super::Location;
use crate::error::Error;
use crate::limits::{LEASE_RENEW, LEASE_STALE};

const HELD: &[u8] = b"held";
const GIVEN_BACK: &[u8] = b"free";

/// The right to write; given back with [`Lease::give_back`], else it grows stale.
#[derive(Debug)]
pub struct Lease {
    number: u64,
    renewal: tokio::task::JoinHandle<()>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

fn name(number: u64) -> String {
    format!("leases/{number:020}")
}

impl Lease {
    pub async fn take(location: &Location) -> Result<Self, Error> {
        let last = location.numbers("leases").await?.pop().unwrap_or(0);
        if last > 0 && !is_free(location, last).await? {
            return Err(Error::OtherWriter(location.uri.clone()));
        }
        let number = last + 1;
        if !location.create(&name(number), HELD.to_vec()).await? {
            return Err(Error::OtherWriter(location.uri.clone()));
        }
        for old in 1.max(last.saturating_sub(1))..=last {
            let _ = location.store.delete(&location.key(&name(old))).await;
        }
        let own = location.clone();
        let renewal = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LEASE_RENEW).await;
                let payload = PutPayload::from_static(HELD);
                let _ = own.store.put(&own.key(&name(number)), payload).await;
            }
        });
        Ok(Self { number, renewal })
    }

    /// Still the one with the highest number.
    pub async fn check(&self, location: &Location) -> Result<(), Error> {
        if location.numbers("leases").await?.pop() == Some(self.number) {
            Ok(())
        } else {
            Err(Error::OtherWriter(location.uri.clone()))
        }
    }

    pub async fn give_back(self, location: &Location) {
        self.renewal.abort();
        if self.check(location).await.is_ok() {
            let payload = PutPayload::from_static(GIVEN_BACK);
            let _ = location.store.put(&location.key(&name(self.number)), payload).await;
        }
    }
}

/// Given back, or not renewed for long.
async fn is_free(location: &Location, number: u64) -> Result<bool, Error> {
    let found = location.store.get(&location.key(&name(number))).await;
    let found = found.map_err(|e| location.failed("read the lease", &e))?;
    let renewed: SystemTime = found.meta.last_modified.into();
    let stale = renewed.elapsed().is_ok_and(|age| age > LEASE_STALE);
    let bytes = found.bytes().await.map_err(|e| location.failed("read the lease", &e))?;
    Ok(stale || bytes == GIVEN_BACK)
}
