//! The Rust side of `benches/products.py`: times products as it is told on its standard input, a line for each.
//!
//! `product ISA THREADS M K N MILLISECONDS` answers the shortest time of one product in nanoseconds, over as many samples
//! as fit: processor time of the calling thread where that is the only one, else time on the clock; `peak ISA THREADS MILLISECONDS` answers the multiply-adds per nanosecond that the registers alone allow.

#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use innkeeper_kernels::{Activation, Backend, Cpu, Isa, Memory, Op, Pool, Run};
use innkeeper_tensor::Tensor;

fn main() {
    let mut pools = HashMap::new();
    let mut operands = HashMap::new();
    let memory = Memory::new(1 << 30);
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<usize>().unwrap();
        let isa = Isa::ALL.into_iter().find(|isa| isa.name() == words[1]).unwrap();
        let threads = number(2);
        let answer = if !isa.is_there() {
            "missing".into()
        } else if words[0] == "peak" {
            peak(isa, threads, Duration::from_millis(number(3) as u64)).to_string()
        } else {
            let sizes = (number(3), number(4), number(5));
            let (x, w) = operands.entry(sizes).or_insert_with(|| tensors(sizes));
            let pool = pools.entry(threads).or_insert_with(|| Pool::new(threads).unwrap());
            let run = Run::new().on(pool, threads).recycling(&memory);
            let cpu = Cpu::with_isa(isa).unwrap();
            let time = Duration::from_millis(number(6) as u64);
            let now = if threads == 1 { thread_time } else { clock };
            product(&cpu, [x, w], &run, time, now).to_string()
        };
        println!("{answer}");
        std::io::stdout().flush().unwrap();
    }
}

fn tensors((m, k, n): (usize, usize, usize)) -> (Tensor, Tensor) {
    let fill = |len: usize| (0..len).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect();
    let x = Tensor::from_vec(&[m, k], fill(m * k)).unwrap();
    (x, Tensor::from_vec(&[n, k], fill(n * k)).unwrap().constant())
}

/// The shortest time of one call, in nanoseconds.
fn product(
    cpu: &Cpu,
    operands: [&Tensor; 2],
    run: &Run<'_>,
    time: Duration,
    now: fn() -> f64,
) -> f64 {
    let op = Op::Linear { bias: false, residual: false, activation: Activation::None };
    let once = || run.recycle(cpu.run_one(&op, &operands, run).unwrap());
    // Calls that are too short for the clock are timed together.
    once();
    let start = Instant::now();
    once();
    let together = (20_000 / start.elapsed().as_nanos().max(1)).clamp(1, 100) as u32;
    let (begin, mut best) = (Instant::now(), f64::MAX);
    while begin.elapsed() < time {
        let start = now();
        (0..together).for_each(|_| once());
        best = best.min((now() - start) / f64::from(together));
    }
    best
}

/// Nanoseconds on the clock.
fn clock() -> f64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_nanos() as f64
}

/// Nanoseconds for which this thread had a processor.
#[cfg(target_os = "linux")]
fn thread_time() -> f64 {
    #[repr(C)]
    struct Time {
        seconds: i64,
        nanoseconds: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Time) -> i32;
    }
    const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    let mut time = Time { seconds: 0, nanoseconds: 0 };
    // SAFETY: the C library's function writes a `timespec`, which on 64-bit Linux is these two numbers.
    unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.seconds as f64 * 1e9 + time.nanoseconds as f64
}

#[cfg(not(target_os = "linux"))]
fn thread_time() -> f64 {
    clock()
}

/// Multiply-adds per nanosecond of `threads` threads that touch no memory.
fn peak(isa: Isa, threads: usize, time: Duration) -> f64 {
    let pool = Pool::new(threads).unwrap();
    let run = Run::new().on(&pool, threads);
    const ROUNDS: usize = 20_000;
    let (begin, mut best) = (Instant::now(), 0f64);
    while begin.elapsed() < time {
        let start = Instant::now();
        let lanes = std::sync::atomic::AtomicUsize::new(0);
        run.parallel(threads, |_| {
            lanes.fetch_add(multiply_adds(isa, ROUNDS), std::sync::atomic::Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        let done = lanes.into_inner() as f64;
        best = best.max(done / start.elapsed().as_nanos() as f64);
    }
    best
}

/// Does so many rounds of independent multiply-adds, and says how many those were.
#[cfg(target_arch = "x86_64")]
fn multiply_adds(isa: Isa, rounds: usize) -> usize {
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f")]
    fn avx512(rounds: usize) -> usize {
        let (x, y) = (_mm512_set1_ps(0.5), _mm512_set1_ps(1.0));
        let mut sums = [_mm512_setzero_ps(); 24];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(x, *sum, y);
            }
        }
        std::hint::black_box(sums);
        rounds * 24 * 16
    }

    #[target_feature(enable = "avx2,fma")]
    fn avx2(rounds: usize) -> usize {
        let (x, y) = (_mm256_set1_ps(0.5), _mm256_set1_ps(1.0));
        let mut sums = [_mm256_setzero_ps(); 12];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(x, *sum, y);
            }
        }
        std::hint::black_box(sums);
        rounds * 12 * 8
    }

    match isa {
        // SAFETY: `main` has asked whether the instructions are there.
        Isa::Avx512 => unsafe { avx512(rounds) },
        // SAFETY: as above.
        Isa::Avx2 => unsafe { avx2(rounds) },
        _ => rounds,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn multiply_adds(_: Isa, rounds: usize) -> usize {
    rounds
}
