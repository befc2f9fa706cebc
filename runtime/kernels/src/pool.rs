//! Threads for long operations, shared fairly by the calls that run at the same time.
//!
//! A call publishes its chunks in one of a fixed number of places, works on them itself, and takes the place back when
//! all are done: there is no queue, and a call that finds no place works alone. A worker takes one chunk from each
//! published call in turn, so that a huge product and a small one advance at the same pace.

#![allow(unsafe_code)]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::OpError;

/// The most threads that a pool may have, the caller's included.
pub const THREADS_MAX: usize = 1024;

/// Calls that have helpers at the same time; one bit of a word each.
const PLACES: usize = 64;
/// How often an idle worker looks for work before it lets others have the processor: some tens of microseconds, which
/// is what lies between two operations of a network.
const SPINS: u32 = 2_000;
/// How often it lets others go first before it sleeps.
const YIELDS: u32 = 100;

/// A sized pool of threads. Dropping it waits until they are gone.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// One call's chunks. It lies on the caller's stack.
struct Job<'a> {
    chunk: &'a Chunk<'a>,
    stop: Option<&'a (dyn Fn() -> bool + Sync)>,
    chunks: usize,
    next: AtomicUsize,
    failed: AtomicBool,
    error: Mutex<Option<OpError>>,
}

/// How a call makes room for others that use the same processors. Asked on the call's own thread, between two chunks.
pub trait GiveWay: Sync {
    /// How many of `threads`, its own among them, may work for it now.
    fn threads_max(&self, threads: usize) -> usize;
    /// Whether another call is to go first.
    fn is_due(&self) -> bool;
    /// Waits until the call may go on.
    fn give_way(&self);
}

/// What is called for each chunk.
pub(crate) type Chunk<'a> = dyn Fn(usize) -> Result<(), OpError> + Sync + 'a;

/// Where a call publishes its job. Two of them never share a cache line.
#[derive(Debug)]
#[repr(align(128))]
struct Place {
    /// Null when there is none.
    job: AtomicPtr<()>,
    /// Workers that may be looking at the job.
    users: AtomicUsize,
    /// As many workers as may help.
    users_max: AtomicUsize,
}

#[derive(Debug)]
struct Shared {
    places: [Place; PLACES],
    /// Which places some call holds.
    taken: AtomicU64,
    /// Which places have a job.
    active: AtomicU64,
    /// Counts the jobs that were published, so that a worker that goes to sleep can see that it missed one.
    published: AtomicU64,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    closing: AtomicBool,
}

impl Pool {
    /// A pool for calls on `threads` threads each, one of which is the caller's own.
    ///
    /// # Errors
    /// The system's, when it gives no thread.
    pub fn new(threads: usize) -> std::io::Result<Pool> {
        let mut pool = Pool { shared: Arc::new(Shared::new()), workers: Vec::new() };
        for index in 1..threads.min(THREADS_MAX) {
            let shared = Arc::clone(&pool.shared);
            let name = format!("kernels-{index}");
            pool.workers.push(thread::Builder::new().name(name).spawn(move || shared.work())?);
        }
        Ok(pool)
    }

    /// How many threads work on one call at most, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `chunk` once with each number below `chunks`, on this thread and on at most `helpers` others.
    pub(crate) fn run(
        &self,
        chunks: usize,
        helpers: usize,
        stop: Option<&(dyn Fn() -> bool + Sync)>,
        way: Option<&dyn GiveWay>,
        chunk: &Chunk<'_>,
    ) -> Result<(), OpError> {
        let job = Job {
            chunk,
            stop,
            chunks,
            next: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            error: Mutex::new(None),
        };
        let helpers = helpers.min(self.workers.len());
        let offer = || if helpers == 0 { None } else { self.shared.publish(&job, helpers) };
        let withdraw = |place: usize| self.shared.withdraw(place);
        let mut place = offer();
        loop {
            if let Some(way) = way.filter(|way| way.is_due()) {
                // What rests is not worked on: it would take the helpers from those who run.
                place.take().into_iter().for_each(withdraw);
                way.give_way();
                place = offer();
            }
            if !job.step() {
                break;
            }
        }
        place.into_iter().for_each(withdraw);
        job.error.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.published.fetch_add(1, Ordering::SeqCst);
        {
            let _guard = self.shared.asleep();
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker catches every panic of what it runs.
            let _ = worker.join();
        }
    }
}

impl Job<'_> {
    /// Does one chunk; false when there is none left.
    fn step(&self) -> bool {
        if self.failed.load(Ordering::Relaxed) || self.next.load(Ordering::Relaxed) >= self.chunks {
            return false;
        }
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        if index >= self.chunks {
            return false;
        }
        if let Err(error) = guarded(self.stop, self.chunk, index) {
            self.failed.store(true, Ordering::Relaxed);
            self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            return false;
        }
        true
    }
}

/// One chunk, if the call may go on. A panic is an error.
pub(crate) fn guarded(
    stop: Option<&(dyn Fn() -> bool + Sync)>,
    chunk: &Chunk<'_>,
    index: usize,
) -> Result<(), OpError> {
    let run = || match stop {
        Some(stop) if stop() => Err(OpError::Stopped),
        _ => chunk(index),
    };
    // What a chunk leaves half done is dropped with the call's results.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(broken(&*panic)))
}

fn broken(panic: &(dyn Any + Send)) -> OpError {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text.as_str(),
        _ => "no reason given",
    };
    OpError::Unsupported(format!("the operation broke down, which is a defect of the host: {text}"))
}

impl Shared {
    fn new() -> Shared {
        Shared {
            places: std::array::from_fn(|_| Place {
                job: AtomicPtr::new(null_mut()),
                users: AtomicUsize::new(0),
                users_max: AtomicUsize::new(0),
            }),
            taken: AtomicU64::new(0),
            active: AtomicU64::new(0),
            published: AtomicU64::new(0),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            closing: AtomicBool::new(false),
        }
    }

    /// Offers the job to the workers; `None` when every place is taken. Whoever publishes must withdraw before the job
    /// ends.
    fn publish(&self, job: &Job<'_>, helpers: usize) -> Option<usize> {
        let index = self.take_place()?;
        let place = &self.places[index];
        place.users_max.store(helpers, Ordering::Relaxed);
        place.job.store((&raw const *job).cast::<()>().cast_mut(), Ordering::SeqCst);
        self.active.fetch_or(1 << index, Ordering::SeqCst);
        self.published.fetch_add(1, Ordering::SeqCst);
        let sleepers = self.sleepers.load(Ordering::SeqCst);
        if sleepers > 0 {
            let _guard = self.asleep();
            (0..helpers.min(sleepers)).for_each(|_| self.wake.notify_one());
        }
        Some(index)
    }

    fn take_place(&self) -> Option<usize> {
        let mut taken = self.taken.load(Ordering::Relaxed);
        loop {
            let index = taken.trailing_ones();
            if index as usize >= PLACES {
                return None;
            }
            let (with, order) = (taken | 1 << index, Ordering::Acquire);
            match self.taken.compare_exchange_weak(taken, with, order, Ordering::Relaxed) {
                Ok(_) => return Some(index as usize),
                Err(now) => taken = now,
            }
        }
    }

    /// Takes the job back and waits until no worker looks at it.
    fn withdraw(&self, index: usize) {
        let place = &self.places[index];
        self.active.fetch_and(!(1 << index), Ordering::SeqCst);
        place.job.store(null_mut(), Ordering::SeqCst);
        let mut waited = 0;
        while place.users.load(Ordering::SeqCst) > 0 {
            waited += 1;
            pause(waited);
        }
        self.taken.fetch_and(!(1 << index), Ordering::Release);
    }

    /// A worker's life.
    fn work(&self) {
        let (mut last, mut idle) = (0, 0);
        loop {
            let published = self.published.load(Ordering::SeqCst);
            if self.closing.load(Ordering::SeqCst) {
                return;
            }
            let mut helped = false;
            for index in self.after(last) {
                if self.places[index].help() {
                    (last, helped) = (index, true);
                    break;
                }
            }
            idle = if helped { 0 } else { idle + 1 };
            if idle > SPINS + YIELDS {
                self.sleep_since(published);
                idle = 0;
            } else if idle > 0 {
                pause(idle);
            }
        }
    }

    /// The places with a job, those after `last` first.
    fn after(&self, last: usize) -> impl Iterator<Item = usize> {
        let first = (last + 1) % PLACES;
        let mut rest = self.active.load(Ordering::Acquire).rotate_right(first as u32);
        std::iter::from_fn(move || {
            let index = rest.trailing_zeros() as usize;
            if index >= PLACES {
                return None;
            }
            rest &= rest - 1;
            Some((index + first) % PLACES)
        })
    }

    /// Sleeps unless something was published since `published` was read.
    fn sleep_since(&self, published: u64) {
        let guard = self.asleep();
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        // Either this sees the new job, or whoever published it sees this sleeper.
        if self.published.load(Ordering::SeqCst) == published {
            drop(self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner));
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }

    fn asleep(&self) -> MutexGuard<'_, ()> {
        self.sleep.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Does one chunk of the job, if there is one and few enough help already.
    fn help(&self) -> bool {
        let max = self.users_max.load(Ordering::Relaxed);
        if self.users.load(Ordering::Relaxed) >= max {
            return false;
        }
        let others = self.users.fetch_add(1, Ordering::SeqCst);
        let job = self.job.load(Ordering::SeqCst).cast::<Job<'_>>();
        let helped = if job.is_null() || others >= max {
            false
        } else {
            // SAFETY: the job was published by `publish`, from a reference that outlives its `withdraw`. That one first
            // makes the pointer null and then waits until `users` is 0; all four accesses are sequentially consistent,
            // so that either this thread read null above, or `withdraw` sees it among the users and waits.
            unsafe { &*job }.step()
        };
        self.users.fetch_sub(1, Ordering::SeqCst);
        helped
    }
}

fn pause(waited: u32) {
    if waited < SPINS { std::hint::spin_loop() } else { thread::yield_now() }
}
