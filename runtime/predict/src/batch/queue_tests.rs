use super::*;

fn batching(preferred: &[u64], max: u64, delay_us: u64) -> Batching {
    Batching {
        preferred: preferred.to_vec(),
        max,
        delay_us,
        priorities: 3,
        default_priority: None,
        across_tenants: false,
        pad: Vec::new(),
    }
}

fn lane(parameter: &str) -> Lane {
    Lane {
        caller: None,
        parameters: vec![("p".into(), parameter.into())],
        outputs: Vec::new(),
        inputs: Vec::new(),
    }
}

/// A queue, and a clock that stands still until it is told.
struct Bench {
    queue: Queue<&'static str>,
    now: Instant,
}

impl Bench {
    fn new(batching: Batching, running_max: usize) -> Bench {
        Bench { queue: Queue::new(batching, running_max), now: Instant::now() }
    }

    fn push(&mut self, job: &'static str, rows: u64) -> u64 {
        self.queue.push(self.now, lane("a"), self.turn(2, rows), job)
    }

    fn turn(&self, priority: u64, rows: u64) -> Turn {
        Turn { priority, rows, until: self.now + Duration::from_secs(10) }
    }

    fn after(&mut self, us: u64) -> &mut Bench {
        self.now += Duration::from_micros(us);
        self
    }

    fn next(&mut self) -> Option<Vec<&'static str>> {
        self.queue.next(self.now)
    }
}

#[test]
fn alone_on_an_idle_model_it_runs_at_once() {
    let mut bench = Bench::new(batching(&[], 8, 500), 2);
    bench.push("a", 1);
    assert_eq!(bench.next(), Some(vec!["a"]));
    // The model is busy now: the next one is kept for others.
    bench.push("b", 1);
    assert_eq!(bench.next(), None);
    assert_eq!(bench.queue.wakes_at(), Some(bench.now + Duration::from_micros(500)));
    assert_eq!(bench.after(499).next(), None);
    assert_eq!(bench.after(1).next(), Some(vec!["b"]));
}

#[test]
fn alone_when_the_model_becomes_idle_it_waits_no_longer() {
    let mut bench = Bench::new(batching(&[], 8, 500), 2);
    bench.push("a", 1);
    assert_eq!(bench.next(), Some(vec!["a"]));
    bench.push("b", 1);
    assert_eq!(bench.next(), None);
    bench.queue.finished();
    assert_eq!(bench.next(), Some(vec!["b"]));
}

#[test]
fn without_a_delay_nobody_waits_for_others() {
    let mut bench = Bench::new(batching(&[], 8, 0), 2);
    for job in ["a", "b", "c"] {
        bench.push(job, 1);
    }
    assert_eq!(bench.next(), Some(vec!["a", "b", "c"]));
    bench.push("d", 1);
    assert_eq!(bench.next(), Some(vec!["d"]));
    bench.push("e", 1);
    assert_eq!(bench.next(), None, "two batches run already");
    bench.queue.finished();
    assert_eq!(bench.next(), Some(vec!["e"]));
}

#[test]
fn the_maximum_is_in_rows_and_no_request_is_torn() {
    let mut bench = Bench::new(batching(&[], 8, 500), 9);
    for (job, rows) in [("a", 3), ("b", 4), ("c", 2), ("d", 8), ("e", 0)] {
        bench.push(job, rows);
    }
    // Nine rows are there: the maximum is reached, and what fits under it goes.
    assert_eq!(bench.next(), Some(vec!["a", "b"]));
    assert_eq!(bench.next(), Some(vec!["c"]), "the order is kept: d does not overtake it");
    assert_eq!(bench.next(), Some(vec!["d"]));
    assert_eq!(bench.next(), None);
    assert_eq!(bench.after(500).next(), Some(vec!["e"]));
}

#[test]
fn a_preferred_size_runs_without_delay() {
    let mut bench = Bench::new(batching(&[2, 4], 32, 500), 9);
    for job in ["a", "b", "c", "d", "e"] {
        bench.push(job, 1);
    }
    assert_eq!(bench.next(), Some(vec!["a", "b", "c", "d"]));
    assert_eq!(bench.next(), None);
    bench.push("f", 1);
    assert_eq!(bench.next(), Some(vec!["e", "f"]));
    // Three rows are no size that is preferred: they go when the delay is over.
    bench.push("g", 1);
    bench.push("h", 2);
    assert_eq!(bench.next(), None);
    assert_eq!(bench.after(500).next(), Some(vec!["g", "h"]));
    assert_eq!(bench.queue.wakes_at(), None, "nobody waits");
}

#[test]
fn the_first_priority_goes_first_and_order_is_kept_within() {
    let mut bench = Bench::new(batching(&[], 2, 0), 9);
    for (job, priority) in [("low", 3), ("mid", 2), ("high", 1), ("mid2", 2), ("high2", 1)] {
        let turn = bench.turn(priority, 1);
        bench.queue.push(bench.now, lane("a"), turn, job);
    }
    assert_eq!(bench.next(), Some(vec!["high", "high2"]));
    assert_eq!(bench.next(), Some(vec!["mid", "mid2"]));
    assert_eq!(bench.next(), Some(vec!["low"]));
}

#[test]
fn only_what_is_alike_runs_together() {
    let mut bench = Bench::new(batching(&[], 8, 0), 9);
    for (job, parameter) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "y")] {
        let turn = bench.turn(1, 1);
        bench.queue.push(bench.now, lane(parameter), turn, job);
    }
    assert_eq!(bench.next(), Some(vec!["a", "c"]));
    assert_eq!(bench.next(), Some(vec!["b", "d"]));
    assert_eq!(bench.next(), None);
}

#[test]
fn who_has_waited_too_long_is_taken_out() {
    let mut bench = Bench::new(batching(&[], 8, 500), 1);
    bench.push("runs", 1);
    assert!(bench.next().is_some());
    let until = bench.now + Duration::from_micros(200);
    bench.queue.push(bench.now, lane("a"), Turn { until, ..bench.turn(2, 1) }, "impatient");
    bench.push("patient", 1);
    assert_eq!(bench.queue.wakes_at(), Some(until));
    bench.after(199);
    assert!(bench.queue.expired(bench.now).is_empty());
    bench.after(1);
    assert_eq!(bench.queue.expired(bench.now), ["impatient"]);
    bench.queue.finished();
    assert_eq!(bench.next(), Some(vec!["patient"]));
}

#[test]
fn who_leaves_does_not_run() {
    let mut bench = Bench::new(batching(&[], 8, 0), 1);
    bench.push("a", 1);
    let ticket = bench.push("b", 1);
    bench.push("c", 1);
    assert_eq!(bench.queue.remove(ticket), Some("b"));
    assert_eq!(bench.queue.remove(ticket), None);
    assert_eq!(bench.next(), Some(vec!["a", "c"]));
    assert_eq!(bench.queue.remove(0), None, "what runs is not taken out");
}
