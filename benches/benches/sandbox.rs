//! What the sandbox itself costs: a warm prediction and a fresh instance, without any network.
//!
//! `INNKEEPER_BENCH_COMPONENT` names the component of the `add-one` plugin, as `innkeeper build` makes it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use innkeeper_sandbox::{
    Assets, ByteBudget, Call, Cancel, Compiler, Engine, EngineConfig, Instance, InstanceLimits,
    Level, LogSink, Program, Seal, Setup,
};
use innkeeper_tensor::{Named, Tensor};

struct NoLog;

impl LogSink for NoLog {
    fn write(&self, _: Level, _: &str, _: &str) {}
    fn dropped(&self, _: &str, _: u64) {}
}

fn setup() -> Setup {
    Setup {
        assets: Arc::new(Assets::default()),
        limits: InstanceLimits {
            guest_memory_bytes_max: 256 << 20,
            table_elements_max: 20_000,
            handles_max: 10_000,
            hostcall_bytes_max: 64 << 20,
            output_bytes_max: 64 << 20,
            log_bytes_max: 16 << 10,
        },
        tensor_bytes: ByteBudget::new(512 << 20),
        log: Arc::new(NoLog),
        deadline: Instant::now() + Duration::from_secs(10),
        load_ms_max: 10_000,
        cancel: Cancel::default(),
    }
}

fn call() -> Call {
    let tensor = Tensor::from_vec(&[1, 16], vec![1f32; 16]).expect("16 elements");
    Call {
        id: String::new(),
        parameters: Arc::default(),
        inputs: vec![Named { name: "INPUT0".into(), tensor }],
        outputs: Arc::default(),
        deadline: Instant::now() + Duration::from_secs(10),
        deadline_ms_max: 10_000,
        cancel: Cancel::default(),
        work: None,
    }
}

async fn predict(instance: &mut Instance) -> Vec<Named> {
    instance.predict(call()).await.expect("add-one answers")
}

fn sandbox(criterion: &mut Criterion) {
    let path = std::env::var("INNKEEPER_BENCH_COMPONENT")
        .expect("set INNKEEPER_BENCH_COMPONENT to the component of plugins/add-one");
    let component = std::fs::read(path).expect("the component can be read");
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be made");
    let engine = Engine::new(&EngineConfig::default()).expect("the engine can be set up");
    let seal = Seal::new([1; 32]);
    let code = runtime
        .block_on(Compiler::in_process().compile(&engine, component))
        .expect("the component compiles");
    let sealed = seal.close(&engine.fingerprint(), &[0; 32], &code);
    let program = Program::open(&engine, &seal, &[0; 32], &sealed).expect("the seal is whole");

    criterion.bench_function("warm predict [1,16]", |bench| {
        let mut instance = runtime.block_on(program.instantiate(setup())).expect("it loads");
        bench.iter_batched(
            call,
            |call| runtime.block_on(instance.predict(call)),
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("fresh instance, load and predict [1,16]", |bench| {
        bench.iter(|| {
            runtime.block_on(async {
                let mut instance = program.instantiate(setup()).await.expect("it loads");
                predict(&mut instance).await
            })
        });
    });
    criterion.bench_function("fresh instance and load", |bench| {
        bench.iter(|| runtime.block_on(program.instantiate(setup())).map(drop));
    });
}

criterion_group!(benches, sandbox);
criterion_main!(benches);
