//! Requests of which only the newest counts: those of Lapce's palette.
//!
//! Lapce asks on each key press, cancels nothing, and shows whichever answer it reads last. And it
//! draws the rows of a list anew only when the typed text has changed since, or the list was empty
//! in between: an answer that comes while older hits are filtered by the new text is not seen, but
//! is what Enter opens. So a request that a newer one overtakes is declined at once, which
//! empties the list, and the newest is answered when the typing rests.

use std::future::Future;

use tokio::sync::watch;
use tokio::time::sleep;

use super::limits;
use super::rpc::{Answer, Failure, SERVER_CANCELLED};

pub(super) struct Latest {
    /// The number of the newest request.
    newest: watch::Sender<u64>,
}

impl Default for Latest {
    fn default() -> Self {
        Self { newest: watch::Sender::new(0) }
    }
}

impl Latest {
    /// What `work` answers, unless a newer call comes first.
    pub(super) async fn answer(&self, work: impl Future<Output = Answer>) -> Answer {
        let number = *self.newest.borrow() + 1;
        self.newest.send_replace(number);
        let mut newest = self.newest.subscribe();
        tokio::select! {
            biased;
            _ = newest.changed() => Err(Failure::new(SERVER_CANCELLED, "more was typed since")),
            answer = async {
                sleep(limits::PALETTE_REST).await;
                work.await
            } => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::{pending, ready};
    use std::rc::Rc;

    use serde_json::json;
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    /// An old search that ends late is what emptied the palette.
    #[tokio::test]
    async fn the_newest_alone_is_answered_and_last() {
        let order = Rc::new(RefCell::new(Vec::new()));
        let latest = Rc::new(Latest::default());
        let test = async {
            let mut tasks = Vec::new();
            for number in 0..4 {
                let (latest, order) = (latest.clone(), order.clone());
                tasks.push(spawn_local(async move {
                    let work = async {
                        match number {
                            0 => pending().await,
                            _ => Ok(json!(number)),
                        }
                    };
                    let answer = latest.answer(work).await;
                    order.borrow_mut().push((number, answer.ok()));
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
        };
        LocalSet::new().run_until(test).await;
        assert_eq!(*order.borrow(), [(0, None), (1, None), (2, None), (3, Some(json!(3)))]);
        // One after the other, each has its own.
        for text in ["a", "b"] {
            assert_eq!(latest.answer(ready(Ok(json!(text)))).await, Ok(json!(text)));
        }
    }
}
