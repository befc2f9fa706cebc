use std::sync::atomic::AtomicBool;

use super::*;
use crate::runner::Runner;

const SLICE: u64 = state::SLICE_NS;

/// Slots whose clock says what it is told.
struct Bench {
    fair: Arc<Fair>,
    now: Arc<AtomicU64>,
}

/// A call that always wants to go on, as the line sees it.
struct Client {
    seat: Arc<Seat>,
    slices: u64,
}

fn nobody() -> std::task::Waker {
    std::task::Waker::noop().clone()
}

impl Bench {
    fn new(slots: usize) -> Bench {
        let now = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&now);
        Bench { fair: Fair::by(slots, Box::new(move || clock.load(Ordering::Relaxed))), now }
    }

    fn clients(&self, weight: u64, count: usize) -> Vec<Client> {
        let share = self.fair.share(weight);
        let seat = || Arc::new(Seat::new(Arc::clone(&share)));
        (0..count).map(|_| Client { seat: seat(), slices: 0 }).collect()
    }

    /// Lets time pass, slice by slice; whoever has a slot uses it up.
    fn run(&self, slices: u64, parties: &mut [Vec<Client>]) {
        for _ in 0..slices {
            let all = || parties.iter().flatten();
            let running: Vec<_> = all()
                .filter(|client| client.seat.take(&nobody()))
                .map(|c| c.seat.clone())
                .collect();
            self.now.fetch_add(SLICE, Ordering::Relaxed);
            for client in parties.iter_mut().flatten() {
                if running.iter().any(|seat| Arc::ptr_eq(seat, &client.seat)) {
                    client.slices += 1;
                    client.seat.rotate(&nobody());
                }
            }
        }
    }
}

fn slices(party: &[Client]) -> u64 {
    party.iter().map(|client| client.slices).sum()
}

/// Slots, each share's weight and calls, and what they have had of 1,200 slices.
type Case = (usize, &'static [(u64, usize)], &'static [u64]);

#[test]
fn each_share_gets_its_part_however_many_calls_it_has() {
    let cases: &[Case] = &[
        (1, &[(100, 1), (100, 64)], &[600, 600]),
        (1, &[(100, 64), (100, 1), (100, 8)], &[400, 400, 400]),
        (1, &[(300, 4), (100, 40)], &[900, 300]),
        (1, &[(1, 10), (0, 10)], &[600, 600]),
        (1, &[(u64::MAX, 1), (100, 1)], &[1200, 0]),
        (2, &[(100, 1), (100, 64)], &[1200, 1200]),
        (4, &[(100, 1), (100, 64)], &[1200, 3600]),
        (4, &[(100, 64), (100, 3), (100, 1)], &[1800, 1800, 1200]),
        (3, &[(100, 2)], &[2400]),
    ];
    for (slots, shares, wanted) in cases {
        let bench = Bench::new(*slots);
        let mut parties: Vec<_> =
            shares.iter().map(|&(weight, calls)| bench.clients(weight, calls)).collect();
        bench.run(1_200, &mut parties);
        let got: Vec<u64> = parties.iter().map(|party| slices(party)).collect();
        for (got, wanted) in got.iter().zip(*wanted) {
            // A share may be ahead by its credit, and by a slice on each slot.
            assert!(got.abs_diff(*wanted) <= 24, "{shares:?} on {slots}: {got:?}");
        }
    }
}

#[test]
fn calls_of_a_share_take_turns() {
    let bench = Bench::new(2);
    let mut parties = [bench.clients(100, 8)];
    bench.run(400, &mut parties);
    let got: Vec<u64> = parties[0].iter().map(|client| client.slices).collect();
    assert_eq!(got, [100; 8]);
}

#[test]
fn who_comes_after_a_long_flood_is_next_and_gets_no_more_than_its_part() {
    let bench = Bench::new(1);
    let mut parties = vec![bench.clients(100, 32)];
    bench.run(10_000, &mut parties);
    parties.push(bench.clients(100, 1));
    // One slice runs already.
    bench.run(2, &mut parties);
    assert_eq!(slices(&parties[1]), 1);
    bench.run(1_000, &mut parties);
    assert!((500..=524).contains(&slices(&parties[1])), "{}", slices(&parties[1]));
}

#[test]
fn who_wants_little_does_not_wait_for_who_wants_all() {
    let bench = Bench::new(2);
    let mut parties = vec![bench.clients(100, 32), bench.clients(100, 1)];
    bench.run(100, &mut parties);
    let mut waited = 0;
    for _ in 0..100 {
        // Ten slices of work, then as many of rest: a quarter of both slots.
        parties[1][0].seat.leave();
        let rest = parties.pop().unwrap();
        bench.run(10, &mut parties);
        parties.push(rest);
        let before = parties[1][0].slices;
        bench.run(11, &mut parties);
        waited += 11 - (parties[1][0].slices - before);
    }
    // It waits for the end of one slice each time, and then keeps its slot.
    assert!(waited <= 110, "{waited}");
}

#[test]
fn a_quick_call_does_not_wait_where_its_share_is_next() {
    let bench = Bench::new(1);
    let mut flood = [bench.clients(100, 8)];
    bench.run(50, &mut flood);
    let enter = |share: &Arc<Share>| {
        let seat = Seat::new(Arc::clone(share));
        seat.line_up(true);
        let runs = seat.is_running();
        (seat, runs)
    };
    let light = bench.fair.share(100);
    let (first, runs) = enter(&light);
    assert!(runs, "it has had least");
    let (second, runs) = enter(&light);
    assert!(!runs, "only so many at once do without a slot");
    first.leave();
    second.leave();
    let (third, runs) = enter(flood[0][0].seat.share());
    assert!(runs, "who is alone is next");
    let before = slices(&flood[0]);
    bench.run(5, &mut flood);
    assert_eq!(slices(&flood[0]) - before, 1, "the next slot that is given back makes up for it");
    third.leave();
    bench.run(5, &mut flood);
    assert_eq!(slices(&flood[0]) - before, 6);
}

#[test]
fn what_leaves_without_having_run_takes_nothing_with_it() {
    let bench = Bench::new(1);
    let mut parties = [bench.clients(100, 1), bench.clients(100, 1)];
    let runs = bench.clients(100, 1);
    assert!(runs[0].seat.take(&nobody()));
    assert!(parties.iter().flatten().all(|client| !client.seat.take(&nobody())));
    // One leaves the line, one leaves with a slot that it has not seen.
    parties[0][0].seat.leave();
    runs[0].seat.leave();
    parties[1][0].seat.leave();
    bench.run(5, &mut parties[..1]);
    assert_eq!(slices(&parties[0]), 5);
}

#[test]
fn operations_use_the_threads_of_their_share() {
    let bench = Bench::new(4);
    let (a, b) = (bench.clients(300, 2), bench.clients(100, 1));
    assert_eq!(a[0].seat.share().part_of(8), 8, "alone it has all");
    assert!(a.iter().chain(&b).all(|client| client.seat.take(&nobody())));
    assert_eq!((a[0].seat.share().part_of(8), b[0].seat.share().part_of(8)), (6, 2));
    assert_eq!(b[0].seat.share().part_of(1), 1);
    b[0].seat.leave();
    assert_eq!(a[0].seat.share().part_of(8), 8);
}

/// A guest that never ends by itself: it counts its slices, and yields after each as at a tick of the epoch.
async fn spin(slices: Arc<AtomicU64>, until: impl Fn(u64) -> bool) {
    std::future::poll_fn(move |context| {
        if until(slices.fetch_add(1, Ordering::Relaxed)) {
            return Poll::Ready(());
        }
        yielding();
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_real_threads_a_flood_costs_a_neighbour_half() {
    // Each look at the clock is a slice: time passes by what is done, not by what the machine does meanwhile.
    let now = AtomicU64::new(0);
    let clock = move || now.fetch_add(SLICE, Ordering::Relaxed);
    let runner = Runner::by(1, Fair::by(1, Box::new(clock))).unwrap();
    let (flood, light) = (runner.share(100), runner.share(100));
    let (flooded, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    for _ in 0..20 {
        let over = Arc::clone(&over);
        runner.spawn(spin(Arc::clone(&flooded), move |_| over.load(Ordering::Relaxed)), &flood);
    }
    let (before, meanwhile) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&meanwhile);
    let until = move |slices| {
        let so_far = flooded.load(Ordering::Relaxed);
        if slices == 0 {
            before.store(so_far, Ordering::Relaxed);
        }
        counted.store(so_far - before.load(Ordering::Relaxed), Ordering::Relaxed);
        slices == 1_000
    };
    runner.run(spin(Arc::default(), until), &light, false).await.unwrap();
    over.store(true, Ordering::Relaxed);
    // 20 calls against one, and yet each side had as much. The light one may be ahead by its credit.
    let meanwhile = meanwhile.load(Ordering::Relaxed);
    assert!((970..=1_010).contains(&meanwhile), "{meanwhile}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_gives_its_slot_back() {
    let runner = Runner::new(1).unwrap();
    let share = runner.share(100);
    async fn panics() {
        panic!("on purpose");
    }
    assert_eq!(runner.run(panics(), &share, false).await, None);
    assert_eq!(runner.run(async { 1 }, &share, false).await, Some(1));
    assert_eq!(runner.run(async { 2 }, &share, true).await, Some(2));
}
