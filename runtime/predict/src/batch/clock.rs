//! Wakes batchers when a delay is over: to the microsecond, as far as the system goes, where the timers of tokio count
//! in milliseconds.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::Batcher;

/// A batcher that is to be asked at some time what is to run.
type Wish = (Instant, Weak<Batcher>);

/// A thread that sleeps until somebody's time has come. It ends with its handle.
#[derive(Debug)]
pub(crate) struct Clock(Sender<Wish>);

impl Clock {
    pub(crate) fn start() -> std::io::Result<Clock> {
        let (wishes, heard) = channel();
        std::thread::Builder::new().name("batches".into()).spawn(move || run(&heard))?;
        Ok(Clock(wishes))
    }

    /// Asks `batcher` at that time what is to run.
    pub(crate) fn wake(&self, at: Instant, batcher: &Arc<Batcher>) {
        // The thread is there for as long as this handle is.
        let _ = self.0.send((at, Arc::downgrade(batcher)));
    }
}

fn run(heard: &Receiver<Wish>) {
    // The number keeps wishes for the same instant apart.
    let mut wishes: BTreeMap<(Instant, u64), Weak<Batcher>> = BTreeMap::new();
    for number in 0.. {
        let wish = match wishes.first_key_value() {
            None => heard.recv().map_err(RecvTimeoutError::from),
            Some(((at, _), _)) => heard.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match wish {
            Ok((at, batcher)) => drop(wishes.insert((at, number), batcher)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now = Instant::now();
        while let Some(first) = wishes.first_entry()
            && first.key().0 <= now
        {
            if let Some(batcher) = first.remove().upgrade() {
                batcher.woken();
            }
        }
    }
}
