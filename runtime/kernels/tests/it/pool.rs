//! Threads that calls share, and what may go wrong on them.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use innkeeper_kernels::{GiveWay, OpError, Pool, Run};

/// Waits for something that another thread does soon.
fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        thread::yield_now();
    }
}

#[test]
fn every_chunk_runs_once() {
    let pool = Pool::new(3).unwrap();
    assert_eq!(pool.threads(), 3);
    for (chunks, threads) in [(0, 3), (1, 3), (2, 2), (7, 1), (1000, 3), (1000, 0), (50, 100)] {
        let run = Run::new().on(&pool, threads);
        let times: Vec<_> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
        let count = |index: usize| {
            times[index].fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        run.parallel(chunks, count).unwrap();
        assert!(times.iter().all(|times| times.load(Ordering::Relaxed) == 1));
    }
}

#[test]
fn pieces_are_disjoint_and_complete() {
    let pool = Pool::new(2).unwrap();
    for (len, piece) in [(0, 3), (10, 3), (9, 3), (5, 100), (4, 0)] {
        let mut out = vec![0; len];
        let write = |index: usize, piece: &mut [usize]| {
            piece.iter_mut().for_each(|out| *out += index + 1);
            Ok(())
        };
        Run::new().on(&pool, 2).pieces(&mut out, piece, write).unwrap();
        let wanted: Vec<_> = (0..len).map(|i| i / piece.max(1) + 1).collect();
        assert_eq!(out, wanted);
    }
}

#[test]
fn more_calls_than_places_and_calls_within_calls() {
    let pool = Pool::new(3).unwrap();
    let total = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let run = Run::new().on(&pool, 3);
                let inner = |_| {
                    total.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                };
                run.parallel(10, |_| run.parallel(10, inner)).unwrap();
            });
        }
    });
    assert_eq!(total.into_inner(), 100 * 100);
}

#[test]
fn a_panic_is_an_error_and_the_workers_live_on() {
    let pool = Pool::new(2).unwrap();
    for run in [Run::new(), Run::new().on(&pool, 2)] {
        for _ in 0..20 {
            let error = run.parallel(100, |index| {
                assert!(index != 50, "half of it");
                Ok(())
            });
            let text = error.unwrap_err().to_string();
            assert!(text.contains("defect of the host") && text.contains("half of it"), "{text}");
        }
    }
    // Both threads are needed to end this.
    let here = AtomicUsize::new(0);
    let meet = |_| {
        here.fetch_add(1, Ordering::SeqCst);
        until("the other thread", || here.load(Ordering::SeqCst) == 2);
        Ok(())
    };
    Run::new().on(&pool, 2).parallel(2, meet).unwrap();
}

#[test]
fn errors_and_deadlines_end_a_call() {
    let pool = Pool::new(2).unwrap();
    let done = AtomicUsize::new(0);
    let failing = |index| {
        done.fetch_add(1, Ordering::Relaxed);
        if index == 5 { Err(OpError::InvalidArgument("five".into())) } else { Ok(()) }
    };
    let error = Run::new().on(&pool, 2).parallel(1_000_000, failing).unwrap_err();
    assert_eq!(error, OpError::InvalidArgument("five".into()));
    assert!(done.into_inner() < 1_000_000);

    let count = AtomicUsize::new(0);
    let stop = || count.load(Ordering::Relaxed) >= 10;
    let counting = |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    for run in [Run::new().until(&stop), Run::new().until(&stop).on(&pool, 2)] {
        count.store(0, Ordering::Relaxed);
        assert_eq!(run.parallel(1_000_000, counting), Err(OpError::Stopped));
        assert!(count.load(Ordering::Relaxed) <= 11);
    }
}

#[test]
fn a_huge_call_does_not_keep_the_workers_from_a_small_one() {
    let pool = Pool::new(2).unwrap();
    let (started, served) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let huge = scope.spawn(|| {
            let stop = || served.load(Ordering::SeqCst);
            let run = Run::new().on(&pool, 2).until(&stop);
            // The only worker has begun to help once two threads were seen.
            let seen = Mutex::new(HashSet::new());
            run.parallel(usize::MAX, |_| {
                let mut seen = seen.lock().unwrap();
                seen.insert(thread::current().id());
                started.store(seen.len() == 2, Ordering::SeqCst);
                Ok(())
            })
        });
        until("the huge call has both threads", || started.load(Ordering::SeqCst));
        let own = thread::current().id();
        let helped = AtomicBool::new(false);
        let small = |_| {
            if thread::current().id() == own {
                until("the worker comes", || helped.load(Ordering::SeqCst));
            }
            helped.store(true, Ordering::SeqCst);
            Ok(())
        };
        Run::new().on(&pool, 2).parallel(2, small).unwrap();
        served.store(true, Ordering::SeqCst);
        assert_eq!(huge.join().unwrap(), Err(OpError::Stopped));
    });
}

#[test]
fn workers_wake_up_again() {
    let pool = Pool::new(2).unwrap();
    for _ in 0..3 {
        // Longer than a worker looks for work before it sleeps.
        let start = Instant::now();
        until("a while", || start.elapsed() > Duration::from_millis(5));
        let here = AtomicUsize::new(0);
        let meet = |_| {
            here.fetch_add(1, Ordering::SeqCst);
            until("the other thread", || here.load(Ordering::SeqCst) == 2);
            Ok(())
        };
        Run::new().on(&pool, 2).parallel(2, meet).unwrap();
    }
}

/// Lets others go first before each chunk of its own thread, and has a part of the threads.
struct Polite {
    threads: usize,
    rests: AtomicUsize,
    rests_now: AtomicBool,
}

impl GiveWay for Polite {
    fn threads_max(&self, threads: usize) -> usize {
        self.threads.min(threads)
    }

    fn is_due(&self) -> bool {
        !thread::current().name().is_some_and(|name| name.starts_with("kernels-"))
    }

    fn give_way(&self) {
        self.rests_now.store(true, Ordering::SeqCst);
        self.rests.fetch_add(1, Ordering::SeqCst);
        (0..100).for_each(|_| thread::yield_now());
        self.rests_now.store(false, Ordering::SeqCst);
    }
}

#[test]
fn nobody_works_for_a_call_that_lets_others_go_first() {
    let pool = Pool::new(3).unwrap();
    for threads in [1, 3] {
        let (rests, rests_now) = (AtomicUsize::new(0), AtomicBool::new(false));
        let way = Polite { threads, rests, rests_now };
        let (done, seen) = (AtomicUsize::new(0), Mutex::new(HashSet::new()));
        let chunk = |_| {
            assert!(!way.rests_now.load(Ordering::SeqCst), "it rests");
            seen.lock().unwrap().insert(thread::current().id());
            done.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        Run::new().on(&pool, 3).giving_way(&way).parallel(300, chunk).unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 300);
        let (rests, seen) = (way.rests.load(Ordering::SeqCst), seen.lock().unwrap().len());
        assert!(rests > 0 && seen <= threads, "{seen} threads, {rests} rests");
        // For what is done under a lock there are none.
        let before = way.rests.load(Ordering::SeqCst);
        let run = Run::new().giving_way(&way).without_rests();
        run.parallel(10, chunk).unwrap();
        assert_eq!(way.rests.load(Ordering::SeqCst), before);
    }
}
