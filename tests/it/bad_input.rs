//! Everything that must not be taken, each with the answer that it gets. The server goes on after all of it.

use std::io::Write;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::harness::{Answer, Client, Server, guest, root};
use super::parts;
use super::wire::{Next, Wire, request};

/// Low limits, so that going over them takes neither time nor memory.
const CONFIG: &str = "
    [limits]
    load_ms_max = 3000
    tensor_bytes_max = 33554432
    upload_bytes_max = 2097152
    body_bytes_max = 65536
    [deploy]
    compile_ms_max = 4000
";

const TAR: &[(&str, &str)] = &[("content-type", "application/x-tar")];

/// One bad bundle or component: what it is, its bytes, the status and a part of the text that it gets.
type Row = (&'static str, Vec<u8>, u16, &'static str);

/// Publishes each, which must fail as it says and leave nothing.
fn refuse(tenant: &Client, kind: &str, rows: Vec<Row>) {
    let mut wrong = Vec::new();
    for (what, bytes, status, text) in rows {
        let path = "/api/v1/models/bad/versions/1?alias=stable";
        let answer = tenant.send("POST", path, &[("content-type", kind)], &bytes);
        let says = answer.error();
        let right = answer.status == status && says.contains(text) && says.len() < 2_000;
        if !right || !answer.json()["code"].is_string() {
            wrong.push(format!("{what}: wanted {status} {text:?}: {} {says}", answer.status));
        }
        tenant.get("/api/v1/models/bad").expect_status(404);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_answer_that_closes_waits_for_no_body() {
    let server = Server::with_config("[server]\nbody_idle_ms = 600000\n");
    let tenant = server.tenant("a");
    let bundle = &guest("plugins/add-one").bundle;
    tenant.publish("m", "1", bundle).expect_status(201);
    let mut wire = Wire::open(&tenant);
    let headers = ["content-length: 1000", "inference-header-content-length: x"];
    wire.send(&request(&tenant.key, "POST", "/v2/models/m/infer", &headers, b""));
    let answer = wire.answer();
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(answer.header("connection"), Some("close"));
}

/// The server still takes what is good.
fn expect_well(tenant: &Client) {
    let bundle = &guest("plugins/add-one").bundle;
    assert!([200, 201].contains(&tenant.publish("good", "1", bundle).status));
    tenant.infer("good", row()).expect_status(200);
}

fn row() -> Value {
    json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 16], "data": vec![1.0; 16] }])
}

fn wat(name: &str) -> Vec<u8> {
    wat::parse_file(root().join("tests/guests/text").join(name)).unwrap()
}

/// A component of one core module with this text, and nothing else.
fn module(text: &str) -> Vec<u8> {
    wat::parse_str(format!("(component (core module {text}))")).unwrap()
}

fn leb(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn section(id: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(id);
    leb(content.len(), out);
    out.extend_from_slice(content);
}

/// A component that is within every limit of inspection, and far too much for the compiler: big functions in which many
/// locals live through many branches.
fn slow_to_compile() -> Vec<u8> {
    const FUNCTIONS: usize = 12;
    let mut body = Vec::new();
    body.extend_from_slice(&[1, 0xd0, 0x0f, 0x7f]); // One run of 2,000 locals, i32 each.
    let mut dice = 1usize;
    while body.len() < 250_000 {
        let mut local = || {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (dice >> 40) as u8 & 0x7f
        };
        let (a, b, c, d) = (local(), local(), local(), local());
        // block, local.get a, br_if 0, local.get b, local.get c, i32.mul, local.set d, end
        body.extend_from_slice(&[2, 0x40, 0x20, a, 0x0d, 0, 0x20, b, 0x20, c, 0x6c, 0x21, d, 0x0b]);
    }
    body.push(0x0b);
    let mut code = vec![FUNCTIONS as u8];
    for _ in 0..FUNCTIONS {
        leb(body.len(), &mut code);
        code.extend_from_slice(&body);
    }
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(1, &[1, 0x60, 0, 0], &mut module);
    let mut functions = vec![FUNCTIONS as u8];
    functions.resize(1 + FUNCTIONS, 0);
    section(3, &functions, &mut module);
    section(10, &code, &mut module);
    // A component whose exports have the right name comes as far as the compiler.
    let mut component = wat("wrong-types.wat");
    section(1, &module, &mut component);
    component
}

/// Types that double in size with every line.
fn swelling_types() -> Vec<u8> {
    let mut text = "(component (type $t0 (tuple u8 u8))".to_owned();
    for i in 1..60 {
        text += &format!("(type $t{i} (tuple $t{0} $t{0}))", i - 1);
    }
    let mut component = wat("wrong-types.wat");
    let types = wat::parse_str(text + ")").unwrap();
    component.extend_from_slice(&types[8..]);
    component
}

#[test]
fn components_that_are_none() {
    let server = Server::with_config(CONFIG);
    let tenant = server.tenant("acme");
    let good = &guest("plugins/add-one").component;
    let half = good[..good.len() / 2].to_vec();
    let mut changed = good.clone();
    let middle = changed.len() / 2;
    changed[middle..middle + 64].fill(0xff);
    let locals = format!("(func (local {}))", "i32 ".repeat(40_000));
    let nested = (0..300).fold(b"\0asm\x0d\0\x01\0".to_vec(), |inner, _| {
        let mut outer = b"\0asm\x0d\0\x01\0".to_vec();
        section(4, &inner, &mut outer);
        outer
    });
    let rows: Vec<Row> = vec![
        ("nothing", vec![], 422, "not a WebAssembly component"),
        ("a text", b"#!/bin/sh\nrm -rf /\n".to_vec(), 422, "do not begin with \\0asm"),
        ("a bundle", guest("plugins/add-one").bundle.clone(), 422, "not a WebAssembly component"),
        (
            "eight bytes",
            b"\0asm\x0d\0\x01\0".to_vec(),
            422,
            "does not export innkeeper:model/model",
        ),
        ("a magic number alone", b"\0asm".to_vec(), 422, "not a valid component"),
        ("a core module", wat("core-module.wat"), 422, "core WebAssembly module"),
        ("wrong world", wat("empty.wat"), 422, "does not export innkeeper:model/model@0.1.x"),
        ("wrong types in the world", wat("wrong-types.wat"), 422, "innkeeper:model/model"),
        ("an import of WASI", wat("wasi.wat"), 422, "wasi:cli/environment"),
        ("an import of a function", wat("import-function.wat"), 422, "not on the allow list"),
        ("half a component", half, 422, "not a valid component"),
        ("a component with a hole", changed, 422, ""),
        (
            "one enormous function",
            module(&format!("(func {})", "nop ".repeat(300_000))),
            422,
            "function_bytes_max of 262144",
        ),
        ("40,000 locals", module(&locals), 422, "locals_max of 2000: 40000"),
        ("too many functions", module(&"(func)".repeat(100_001)), 422, "functions_max of 100000"),
        ("components in components", nested, 422, "nested_max of 200"),
        ("types that double", swelling_types(), 422, "not a valid component"),
    ];
    refuse(&tenant, "application/wasm", rows);
    expect_well(&tenant);
}

/// What the compiler cannot cope with ends by the clock, and hinders nobody meanwhile.
#[test]
fn a_compile_bomb_goes_off_alone() {
    let server = Server::with_config(
        "[deploy]\ncompile_ms_max = 2000\n[limits]\nupload_bytes_max = 8388608\n",
    );
    let (tenant, other) = (server.tenant("acme"), server.tenant("other"));
    expect_well(&other);
    let bomb = slow_to_compile();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let bombing = scope.spawn(|| tenant.publish_component("bomb", "1", &bomb));
        let mut slowest = Duration::ZERO;
        while !bombing.is_finished() {
            let began = Instant::now();
            other.infer("good", row()).expect_status(200);
            slowest = slowest.max(began.elapsed());
        }
        let answer = bombing.join().unwrap().expect_status(422);
        assert!(answer.error().contains("compile_ms_max of 2000"), "{}", answer.error());
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    });
    let took = began.elapsed();
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(8), "{took:?}");
    super::harness::eventually("the compiler is gone", || children(server.pid()) == 0);
    expect_well(&tenant);
}

/// Processes whose parent this is.
fn children(pid: u32) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let parent = |process: &std::fs::DirEntry| {
        let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
    };
    processes.filter(|process| parent(process) == Some(pid)).count()
}

/// A tar with these entries, whatever they are called.
fn tar_of(entries: &[(&[u8], EntryType, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, kind, data) in entries {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(data.len() as u64);
        header.set_entry_type(*kind);
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(data);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

const FILE: EntryType = EntryType::Regular;

#[test]
fn bundles_that_are_none() {
    let server = Server::with_config(CONFIG);
    let tenant = server.tenant("acme");
    let good = &guest("plugins/add-one").bundle;
    let parts = parts::read(good);
    let manifest = (&b"manifest.json"[..], FILE, &parts.manifest_bytes[..]);
    let component = (&b"component.wasm"[..], FILE, &parts.component[..]);
    let and = |name: &'static [u8], kind| tar_of(&[manifest, component, (name, kind, b"")]);
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(good).unwrap();
    let mut flipped = good.clone();
    let place = good.len() - 1024 - 4096;
    flipped[place] ^= 1;
    let mut checksum = good.clone();
    checksum[0] = b'M';
    let trailing = [good.as_slice(), b"and more"].concat();
    assert_eq!(&tar_of(&[manifest, component]), good, "what is changed below is good before");

    let rows: Vec<Row> = vec![
        ("nothing", vec![], 400, "cut off at byte 0"),
        ("not a tar", vec![b'x'; 4096], 400, "no tar header"),
        ("a component as a bundle", parts.component.to_vec(), 400, "no tar header"),
        ("compressed", gz.finish().unwrap(), 400, "not compressed"),
        ("cut off in the component", good[..good.len() / 2].to_vec(), 400, "cut off at byte"),
        ("cut off before its end", good[..good.len() - 1024].to_vec(), 400, "cut off at byte"),
        ("cut off in its end", good[..good.len() - 512].to_vec(), 400, "two zero blocks"),
        ("something behind it", trailing, 400, "nothing may follow"),
        ("a flipped bit in the component", flipped, 400, "has the digest"),
        ("a flipped bit in a header", checksum, 400, "checksum is wrong"),
        ("no manifest", tar_of(&[component]), 400, "wanted the entry \"manifest.json\""),
        ("no component", tar_of(&[manifest]), 400, "no entry \"component.wasm\""),
        ("wrong order", tar_of(&[component, manifest]), 400, "the order is manifest.json"),
        ("a way out", and(b"../../etc/cron.d/x", FILE), 400, "leads out of the bundle"),
        ("a way out in the middle", and(b"assets/../../x", FILE), 400, "leads out of the bundle"),
        ("a way out with backslashes", and(b"assets\\..\\x", FILE), 400, "leads out of the bundle"),
        ("an absolute path", and(b"/etc/passwd", FILE), 400, "is an absolute path"),
        ("no UTF-8", and(b"assets/\xff", FILE), 400, "is not UTF-8"),
        ("a symbolic link", and(b"assets/x", EntryType::Symlink), 400, "is a symbolic link"),
        ("a hard link", and(b"assets/x", EntryType::Link), 400, "is a hard link"),
        ("a device", and(b"assets/x", EntryType::Char), 400, "is a device"),
        ("a pipe", and(b"assets/x", EntryType::Fifo), 400, "is a pipe"),
        ("a folder", and(b"assets/", EntryType::Directory), 400, "is a directory"),
        ("a long name", and(b"././@LongLink", EntryType::GNULongName), 400, "GNU long name"),
        ("a sparse file", and(b"assets/x", EntryType::GNUSparse), 400, "is a sparse file"),
        ("a pax header", and(b"pax", EntryType::XHeader), 400, "--format=ustar"),
        ("a file nobody knows", and(b"assets/x", FILE), 400, "is not in the manifest"),
        ("a manifest twice", tar_of(&[manifest, manifest, component]), 400, "stands twice"),
        ("a component twice", tar_of(&[manifest, component, component]), 400, "stands twice"),
    ];
    refuse(&tenant, "application/x-tar", rows);
    expect_well(&tenant);
}

/// The bundle with its manifest changed as JSON, and nothing else.
fn lying(bundle: &[u8], lie: impl FnOnce(&mut Value)) -> Vec<u8> {
    let parts = parts::read(bundle);
    let mut manifest: Value = serde_json::from_slice(&parts.manifest_bytes).unwrap();
    lie(&mut manifest);
    around(bundle, manifest.to_string().as_bytes())
}

/// The bundle with another manifest.
fn around(bundle: &[u8], manifest: &[u8]) -> Vec<u8> {
    let parts = parts::read(bundle);
    let names: Vec<String> =
        parts.manifest.assets.iter().map(|asset| format!("assets/{}", asset.name)).collect();
    let mut entries =
        vec![(&b"manifest.json"[..], FILE, manifest), (b"component.wasm", FILE, &parts.component)];
    for (name, bytes) in names.iter().zip(parts.assets.iter().flatten()) {
        entries.push((name.as_bytes(), FILE, bytes));
    }
    tar_of(&entries)
}

#[test]
fn manifests_that_lie() {
    let server = Server::with_config(CONFIG);
    let tenant = server.tenant("acme");
    let digits = &guest("plugins/digits").bundle;
    let digest = format!("sha256:{}", "0".repeat(64));
    let deep = format!("{{\"innkeeper\":1,\"name\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let lie = |lie: &dyn Fn(&mut Value)| lying(digits, lie);
    let asset = |name: &str| lie(&|m| m["assets"][0]["name"] = json!(name));
    let rows: Vec<Row> = vec![
        ("no JSON", around(digits, b"\x7fELF"), 400, "manifest.json does not read"),
        ("no UTF-8", around(digits, b"{\"innkeeper\":1,\"name\":\"\xff\"}"), 400, "does not read"),
        ("deep JSON", around(digits, deep.as_bytes()), 400, "does not read"),
        ("a huge manifest", around(digits, &vec![b' '; 1 << 20 | 1]), 413, "manifest_bytes_max"),
        (
            "no format",
            lie(&|m| _ = m.as_object_mut().unwrap().remove("innkeeper")),
            400,
            "innkeeper",
        ),
        ("another format", lie(&|m| m["innkeeper"] = json!(2)), 400, "this host reads 1"),
        ("an unknown key", lie(&|m| m["limitz"] = json!({})), 400, "unknown field `limitz`"),
        (
            "an unknown limit",
            lie(&|m| m["limits"] = json!({ "deadline_max": 1 })),
            400,
            "unknown field `deadline_max`",
        ),
        ("a negative limit", lie(&|m| m["limits"] = json!({ "handles_max": -1 })), 400, "-1"),
        (
            "an unknown isolation",
            lie(&|m| m["isolation"] = json!("none")),
            400,
            "unknown variant `none`",
        ),
        (
            "another component",
            lie(&|m| m["component"]["digest"] = json!(digest)),
            400,
            "component.wasm has the digest",
        ),
        (
            "another size of the component",
            lie(&|m| m["component"]["size"] = json!(7)),
            400,
            "the manifest says 7",
        ),
        (
            "a digest that is none",
            lie(&|m| m["component"]["digest"] = json!("sha256:abc")),
            400,
            "does not read",
        ),
        (
            "another asset",
            lie(&|m| m["assets"][0]["digest"] = json!(digest)),
            400,
            "assets/weights.safetensors has the digest",
        ),
        (
            "another size of the asset",
            lie(&|m| m["assets"][0]["size"] = json!(1)),
            400,
            "the manifest says 1",
        ),
        (
            "a size beyond all",
            lie(&|m| m["assets"][0]["size"] = json!(u64::MAX)),
            413,
            "upload_bytes_max of 2097152",
        ),
        (
            "an asset that is not listed",
            lie(&|m| m["assets"] = json!([])),
            400,
            "not in the manifest",
        ),
        ("an asset's name with a way out", asset("../x"), 400, "cannot name an asset"),
        ("an asset's name with a folder", asset("a/b"), 400, "cannot name an asset"),
        ("an asset's name that is empty", asset(""), 400, "cannot name an asset"),
        ("an asset's name that is too long", asset(&"x".repeat(200)), 400, "cannot name an asset"),
        (
            "an asset twice",
            lie(&|m| {
                let asset = m["assets"][0].clone();
                m["assets"].as_array_mut().unwrap().push(asset);
            }),
            400,
            "twice",
        ),
        (
            "assets out of order",
            lie(&|m| {
                let mut asset = m["assets"][0].clone();
                asset["name"] = json!("a");
                m["assets"].as_array_mut().unwrap().push(asset);
            }),
            400,
            "out of order",
        ),
        (
            "an asset that nobody has",
            lie(&|m| {
                let asset = json!({ "name": "x", "digest": digest, "size": 1 });
                m["assets"].as_array_mut().unwrap().push(asset);
            }),
            422,
            "neither in the bundle nor uploaded before",
        ),
        (
            "weights that are none",
            parts::with_asset(digits, b"PK\x03\x04"),
            422,
            "it is not a safetensors file",
        ),
    ];
    refuse(&tenant, "application/x-tar", rows);
    expect_well(&tenant);
}

/// Models that fail in their first steps, or do not keep to what they say.
#[test]
fn models_that_do_not_come_up() {
    let server = Server::with_config(CONFIG);
    let tenant = server.tenant("acme");
    let loading = &guest("tests/guests/loading").bundle;
    let told = |mode: &str| parts::with_asset(loading, mode.as_bytes());
    let rows: Vec<Row> = vec![
        (
            "a trap in load",
            told("panic"),
            422,
            "did not come through load: the model's code trapped",
        ),
        ("an endless load", told("spin"), 422, "load_ms_max of 3000 ms"),
        ("memory without end", told("memory"), 422, "guest_memory_bytes_max"),
        ("tensors without end", told("tensor-bytes"), 422, "tensor_bytes_max"),
        ("an error in load", told("invalid-argument"), 422, "mode.txt said invalid-argument"),
        ("an asset that is absent", told("absent-asset"), 422, "absent.bin"),
        ("a trap in describe", told("signature-panic"), 422, "did not come through describe"),
        ("an endless describe", told("signature-spin"), 422, "load_ms_max of 3000 ms"),
        ("no outputs", told("signature-no-outputs"), 422, "no outputs"),
        ("one name twice", told("signature-twice"), 422, "INPUT0"),
        ("an empty name", told("signature-empty-name"), 422, "the signature cannot be used"),
        ("a long name", told("signature-long-name"), 422, "the signature cannot be used"),
        ("a name with a line break", told("signature-control-name"), 422, "cannot be used"),
        ("a negative size", told("signature-negative"), 422, "-5"),
        ("a size beyond all", told("signature-huge"), 422, "the signature cannot be used"),
        ("1000 dimensions", told("signature-high-rank"), 422, "the signature cannot be used"),
        ("no such batch axis", told("signature-batch-axis-absent"), 422, "batch axis"),
        ("a fixed batch axis", told("signature-batch-axis-fixed"), 422, "batch axis"),
        ("10,000 inputs", told("signature-many"), 422, "cannot be used"),
        ("16 MiB of properties", told("signature-properties"), 422, "the signature cannot be used"),
        (
            "another dtype than it says",
            told("signature-unlike-output"),
            422,
            "output \"OUTPUT0\" must be INT64, got FP32",
        ),
    ];
    refuse(&tenant, "application/x-tar", rows);
    tenant.publish("fine", "1", &told("ok")).expect_status(201);
    tenant.infer("fine", json!([])).expect_status(200);
    expect_well(&tenant);
}

/// A model that breaks its signature later is at fault itself, and the text names the output.
#[test]
fn answers_that_do_not_fit_the_signature() {
    let server = Server::start();
    let tenant = server.tenant("acme");
    tenant.publish("hostile", "1", &guest("tests/guests/hostile").bundle).expect_status(201);
    let cases = [
        ("wrong-dtype", "output \"OUTPUT0\" must be FP32, got INT64"),
        ("wrong-shape", "output \"OUTPUT0\" must have shape [1], got [2]"),
        ("wrong-rank", "output \"OUTPUT0\" must have shape [1], got [1,1]"),
        ("wrong-name", "no output named"),
        ("missing", "output \"OUTPUT0\" is missing"),
        ("twice", "output \"OUTPUT0\" is given twice"),
    ];
    for (mode, text) in cases {
        let inputs = json!([{ "name": "MODE", "datatype": "BYTES", "shape": [1], "data": [mode] }]);
        let answer = tenant.infer("hostile", inputs).expect_status(500);
        assert!(answer.error().contains("does not keep to its signature"), "{}", answer.error());
        assert!(answer.error().contains(text), "{mode}: {}", answer.error());
    }
    let inputs = json!([{ "name": "MODE", "datatype": "BYTES", "shape": [1], "data": ["ok"] }]);
    tenant.infer("hostile", inputs).expect_status(200);
}

/// A tensor of add-one's, with its data as JSON text.
fn tensor(name: &str, dtype: &str, shape: &str, data: &str) -> String {
    format!(r#"{{"name":"{name}","datatype":"{dtype}","shape":{shape},"data":{data}}}"#)
}

fn inputs(tensors: &[String]) -> Vec<u8> {
    format!(r#"{{"inputs":[{}]}}"#, tensors.join(",")).into_bytes()
}

/// The inputs of a request as JSON, the headers, and what follows the JSON.
fn binary(header: &str, data: &[u8]) -> (String, Vec<u8>) {
    (header.len().to_string(), [header.as_bytes(), data].concat())
}

#[test]
fn requests_that_do_not_fit_the_model() {
    let server = Server::with_config(CONFIG);
    let tenant = server.tenant("acme");
    tenant.publish("m", "1", &guest("plugins/add-one").bundle).expect_status(201);
    let ones = format!("[{}]", ["1"; 16].join(","));
    let good = tensor("INPUT0", "FP32", "[1,16]", &ones);
    let one =
        |dtype: &str, shape: &str, data: &str| inputs(&[tensor("INPUT0", dtype, shape, data)]);
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let unknown_deep = format!(r#"{{"x":{deep},"inputs":[]}}"#).into_bytes();
    let max = i64::MAX;
    let rows: Vec<Row> = vec![
        ("no JSON", b"hello".to_vec(), 400, ""),
        ("nothing", b"".to_vec(), 400, ""),
        ("half a JSON", b"{\"inputs\":[{".to_vec(), 400, ""),
        ("JSON and more", [inputs(std::slice::from_ref(&good)), b"x".to_vec()].concat(), 400, ""),
        ("a JSON array", b"[]".to_vec(), 400, ""),
        ("no inputs at all", b"{}".to_vec(), 400, "no \"inputs\""),
        ("inputs twice", b"{\"inputs\":[],\"inputs\":[]}".to_vec(), 400, "stands twice"),
        ("too few inputs", inputs(&[]), 422, "input \"INPUT0\" is missing"),
        ("an input twice", inputs(&[good.clone(), good.clone()]), 422, "given twice"),
        (
            "one input too many",
            inputs(&[good.clone(), tensor("X", "FP32", "[1]", "[1]")]),
            422,
            "no input named \"X\"; the model has",
        ),
        ("wrong name", inputs(&[tensor("INPUT1", "FP32", "[1,16]", &ones)]), 422, "\"INPUT1\""),
        ("wrong dtype", one("INT32", "[1,16]", &ones), 422, "must be FP32, got INT32"),
        ("a dtype that is none", one("FLOAT", "[1,16]", &ones), 400, "FLOAT"),
        ("wrong shape", one("FP32", "[16]", &ones), 422, "must have shape [-1,16], got [16]"),
        ("wrong size", one("FP32", "[2,8]", &ones), 422, "must have shape [-1,16], got [2,8]"),
        ("too few elements", one("FP32", "[1,16]", "[1,2]"), 400, "takes 16 elements, got 2"),
        ("too many elements", one("FP32", "[1,1]", "[1,2]"), 400, "more than the 1 elements"),
        ("other nesting", one("FP32", "[2,1]", "[[1,2],[3]]"), 400, "inputs[0].data"),
        ("a text for a number", one("FP32", "[1]", "[\"1\"]"), 400, "inputs[0].data[0]"),
        ("a number too large", one("INT8", "[1]", "[128]"), 400, "inputs[0].data[0]"),
        ("a fraction for a whole number", one("INT8", "[1]", "[0.5]"), 400, "inputs[0].data[0]"),
        ("FP16 as JSON", one("FP16", "[1]", "[1]"), 400, "FP16 has no JSON form"),
        (
            "no name",
            b"{\"inputs\":[{\"shape\":[1],\"datatype\":\"FP32\"}]}".to_vec(),
            400,
            "\"name\"",
        ),
        ("a negative size", one("FP32", "[-1,16]", "[]"), 400, "sizes are not negative"),
        ("a fraction of a size", one("FP32", "[1.5]", "[]"), 400, "inputs[0].shape[0]"),
        (
            "sizes whose product overflows",
            one("FP32", &format!("[{max},{max}]"), "[]"),
            400,
            "product of the dimensions is too large",
        ),
        (
            "an overflow behind a zero",
            one("FP32", "[0,4294967296,4294967296,16]", "[]"),
            400,
            "product of the dimensions is too large",
        ),
        ("a size of 2^64", one("FP32", "[18446744073709551616]", "[]"), 400, "whole number"),
        ("a huge shape without data", one("FP32", "[1000000000000,16]", "[]"), 400, "got 0"),
        ("17 dimensions", one("FP32", &format!("[{}1]", "1,".repeat(16)), "[1]"), 400, "16"),
        ("deep data", one("FP32", "[1,16]", &deep), 400, "inputs[0].data"),
        ("a deep shape", one("FP32", &deep, "[]"), 400, "inputs[0].shape"),
        ("something deep nobody reads", unknown_deep, 400, "nested at most"),
        (
            "an output that is not there",
            format!(r#"{{"inputs":[{good}],"outputs":[{{"name":"X"}}]}}"#).into_bytes(),
            422,
            "no output named \"X\"",
        ),
        ("too large", vec![b' '; 65_537], 413, "body_bytes_max of 65536"),
    ];
    for (what, body, status, text) in rows {
        check(&tenant, what, &[], &body, status, text);
    }
    expect_well(&tenant);
}

#[track_caller]
fn check(
    tenant: &Client,
    what: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    status: u16,
    text: &str,
) {
    let answer = tenant.send("POST", "/v2/models/m/infer", headers, body);
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    assert!(answer.error().contains(text), "{what}: {}", answer.error());
    assert!(answer.error().len() < 2_000, "{what}: {}", answer.error());
    assert_eq!(answer.json().as_object().unwrap().len(), 1, "{what}: {}", answer.text());
}

#[test]
fn binary_requests_that_do_not_add_up() {
    const LENGTH: &str = "inference-header-content-length";
    let server = Server::with_config(CONFIG);
    let tenant = server.tenant("acme");
    tenant.publish("m", "1", &guest("plugins/identity").bundle).expect_status(201);
    let part = |dtype: &str, shape: &str, size: &str| {
        format!(
            r#"{{"name":"INPUT_{dtype}","datatype":"{dtype}","shape":{shape},"parameters":{{"binary_data_size":{size}}}}}"#
        )
    };
    let two = |a: &str, b: &str| {
        format!(r#"{{"inputs":[{},{}]}}"#, part("FP32", "[2]", a), part("INT8", "[3]", b))
    };
    let one = |dtype: &str, shape: &str, size: &str| {
        format!(r#"{{"inputs":[{}]}}"#, part(dtype, shape, size))
    };
    let (len, body) = binary(&two("8", "3"), &[0; 11]);
    tenant.send("POST", "/v2/models/m/infer", &[(LENGTH, &len)], &body).expect_status(200);

    let cases = [
        ("too little", two("8", "3"), 10, "only 2 bytes are left"),
        ("too much", two("8", "3"), 12, "add up to 11"),
        ("a size unlike its shape", two("7", "3"), 10, "takes 8 bytes, got 7"),
        ("a size that takes the next one's", two("11", "0"), 11, "takes 8 bytes, got 11"),
        ("a negative size", two("-1", "3"), 11, "-1 is no size"),
        ("a huge size", two("9223372036854775807", "3"), 11, "bytes are left"),
        ("a size beyond 64 bits", two("18446744073709551615", "3"), 11, "whole number of 64 bits"),
        ("sizes that add up beyond 64 bits", two("8", "9223372036854775807"), 11, "bytes are left"),
        ("a size as text", two("\"8\"", "3"), 11, "binary_data_size"),
        ("a BOOL that is none", one("BOOL", "[1]", "1"), 1, "must be 0 or 1"),
        ("a text longer than its bytes", one("BYTES", "[1]", "4"), 4, "u32 length"),
    ];
    for (what, header, tail, text) in cases {
        let (len, body) = binary(&header, &vec![0xff; tail]);
        check(&tenant, what, &[(LENGTH, &len)], &body, 400, text);
    }

    let body = br#"{"inputs":[]}"#;
    let over = (body.len() + 1).to_string();
    let says = format!("but the body has {} bytes", body.len());
    for (length, text) in [
        (over.as_str(), says.as_str()),
        ("18446744073709551615", says.as_str()),
        ("18446744073709551616", "must be one number"),
        ("-1", "must be one number"),
        ("ten", "must be one number"),
        ("", "must be one number"),
        ("5", ""),
    ] {
        check(&tenant, length, &[(LENGTH, length)], body, 400, text);
    }
    check(
        &tenant,
        "two lengths",
        &[(LENGTH, "13"), (LENGTH, "1")],
        body,
        400,
        "must be one number",
    );
    check(&tenant, "raw for many inputs", &[(LENGTH, "0")], &[0; 4], 400, "one input");

    let packed = |bytes: &[u8]| {
        let mut gz = GzEncoder::new(Vec::new(), Compression::best());
        gz.write_all(bytes).unwrap();
        gz.finish().unwrap()
    };
    let gzip: &[(&str, &str)] = &[("content-encoding", "gzip")];
    let bomb = packed(&vec![b' '; 32 << 20]);
    assert!(bomb.len() < 65_536);
    check(&tenant, "a bomb", gzip, &bomb, 413, "body_bytes_max of 65536");
    check(&tenant, "gzip that is none", gzip, body, 400, "does not inflate");
    let half = packed(body);
    check(&tenant, "half a gzip", gzip, &half[..half.len() / 2], 400, "does not inflate");
    check(&tenant, "another coding", &[("content-encoding", "br")], body, 415, "gzip");
    check(&tenant, "another type", &[("content-type", "text/xml")], body, 415, "application/json");
    expect_well(&tenant);
}

/// Paths with the methods that they take.
const PATHS: [(&str, &str); 17] = [
    ("/v2", "GET, HEAD"),
    ("/v2/health/live", "GET, HEAD"),
    ("/v2/health/ready", "GET, HEAD"),
    ("/v2/models", "GET, HEAD"),
    ("/v2/models/m", "GET, HEAD"),
    ("/v2/models/m/infer", "POST"),
    ("/t/acme/v2/models/m/versions/1/infer", "POST"),
    ("/api/v1/models", "GET, HEAD"),
    ("/api/v1/models/m", "GET, DELETE, HEAD"),
    ("/api/v1/models/m/versions/1", "POST, GET, DELETE, HEAD"),
    ("/api/v1/models/m/versions/1/interface", "GET, HEAD"),
    ("/api/v1/models/m/aliases/a", "GET, PUT, DELETE, HEAD"),
    ("/api/v1/models/m/sharing", "GET, PUT, HEAD"),
    ("/api/v1/uploads", "POST"),
    ("/api/v1/tenants/acme/keys", "GET, POST, HEAD"),
    ("/api/v1/keys/00000000", "DELETE"),
    ("/api/v1/whoami", "GET, HEAD"),
];

#[test]
fn routes_and_methods_that_are_none() {
    let server = Server::start();
    let tenant = server.tenant("acme");
    for path in [
        "/",
        "/v1",
        "/v2/",
        "/v2/health",
        "/v2/models/m/",
        "/v2/models/m/explode",
        "//v2",
        "/v2/models/../../etc/passwd",
        "/v2/repository",
        "/api",
        "/api/v1",
        "/api/v1/models/",
        "/api/v2/models",
        "/metrics/all",
        "/t/acme",
        "/t/acme/api/v1/models",
        "/t/acme/api/v1/whoami",
        "/a/b/c/d/e/f/g/h/i/j/k/l/m/n",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v2/models/%00",
        "/v2/models/%ff",
    ] {
        let answer = tenant.get(path);
        assert!([400, 404].contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
        assert!(!answer.error().is_empty(), "{path}");
    }
    for (path, allowed) in PATHS {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            if allowed.split(", ").any(|one| one == method) {
                continue;
            }
            let answer = tenant.send(method, path, &[], b"");
            assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text());
            assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
            assert!(answer.error().contains(allowed), "{method} {path}: {}", answer.error());
        }
    }
    for (path, text) in
        [("/api/v1/models/m?x=1", "unknown query key"), ("/api/v1/models/m?%zz", "encoded")]
    {
        let answer = tenant.get(path).expect_status(400);
        assert!(answer.error().contains(text), "{path}: {}", answer.error());
    }
}

/// JSON bodies of the management API.
#[test]
fn bodies_that_do_not_read() {
    let server = Server::start();
    let tenant = server.tenant("acme");
    let admin = server.admin();
    tenant.publish("m", "1", &guest("plugins/add-one").bundle).expect_status(201);
    let deep = format!("{{\"version\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let alias = "/api/v1/models/m/aliases/a";
    let cases: [(&Client, &str, &str, &str, u16, &str); 12] = [
        (&tenant, "PUT", alias, "", 400, "JSON object"),
        (&tenant, "PUT", alias, "nothing", 400, "JSON object"),
        (&tenant, "PUT", alias, &deep, 400, "does not read"),
        (&tenant, "PUT", alias, r#"{"version":"1","x":1}"#, 400, "unknown field `x`"),
        (&tenant, "PUT", alias, r#"{"version":"../1"}"#, 400, "../1"),
        (&tenant, "PUT", alias, r#"{"version":1}"#, 400, "does not read"),
        (&admin, "POST", "/api/v1/tenants", r#"{"name":"UPPER"}"#, 400, "UPPER"),
        (&admin, "POST", "/api/v1/tenants", r#"{"name":""}"#, 400, "does not read"),
        (&admin, "POST", "/api/v1/tenants", r#"{"name":"acme"}"#, 409, "acme"),
        (&admin, "PUT", "/api/v1/tenants/acme/limits", r#"{"deadline_ms_max":-1}"#, 400, "-1"),
        (&admin, "PUT", "/api/v1/tenants/acme/limits", r#"{"deadline":1}"#, 400, "`deadline`"),
        (&admin, "PUT", "/api/v1/tenants/ghost/limits", "{}", 404, "ghost"),
    ];
    for (client, method, path, body, status, text) in cases {
        let answer = client.send(method, path, &[], body.as_bytes());
        let what = format!("{method} {path} {}", body.chars().take(60).collect::<String>());
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert!(answer.error().contains(text), "{what}: {}", answer.error());
    }
    let mut wire = Wire::open(&tenant);
    wire.send(&request(&tenant.key, "PUT", alias, &["content-length: 300000"], b""));
    let answer = wire.answer().expect_status(413);
    assert!(answer.error().contains("json_bytes_max of 262144"), "{}", answer.error());
}

/// Uploads that are larger than they may be, or smaller than they say.
#[test]
fn uploads_that_end_otherwise() {
    let server = Server::with_config(CONFIG);
    let tenant = server.tenant("acme");
    let begun = tenant.post("/api/v1/uploads", &json!({})).expect_status(201).json();
    let upload = format!("/api/v1/uploads/{}", begun["upload"].as_str().unwrap());
    let bundle = &guest("plugins/add-one").bundle;
    let publish = "/api/v1/models/bad/versions/1";
    let type_tar = "content-type: application/x-tar";

    // Too large by its own words, and too large without any.
    for (method, path, header) in
        [("POST", publish, type_tar), ("PATCH", &upload, "upload-offset: 0")]
    {
        let mut wire = Wire::open(&tenant);
        wire.send(&request(&tenant.key, method, path, &[header, "content-length: 3000000"], b""));
        expect_too_large(wire.answer());

        let mut wire = Wire::open(&tenant);
        wire.send(&request(
            &tenant.key,
            method,
            path,
            &[header, "transfer-encoding: chunked"],
            b"",
        ));
        let chunk = [b"40000\r\n".as_slice(), &[0; 0x40000], b"\r\n"].concat();
        (0..9).for_each(|_| wire.send(&chunk));
        wire.send(b"0\r\n\r\n");
        expect_too_large(wire.answer());
    }

    // Shorter than it says: the client is gone, and there is nobody to tell.
    let mut wire = Wire::open(&tenant);
    let headers = [type_tar, &format!("content-length: {}", bundle.len())];
    wire.send(&request(&tenant.key, "POST", publish, &headers, b""));
    wire.send(&bundle[..bundle.len() - 1]);
    wire.half_close();
    match wire.next(Duration::from_secs(10)) {
        Next::Answer(answer) => drop(answer.expect_status(400)),
        Next::Closed => {}
        Next::Silent => panic!("neither answered nor closed"),
    }
    tenant.get("/api/v1/models/bad").expect_status(404);

    // A chunk whose length is no number.
    let mut wire = Wire::open(&tenant);
    let headers = [type_tar, "transfer-encoding: chunked"];
    wire.send(&request(&tenant.key, "POST", publish, &headers, b""));
    wire.send(b"zz\r\n");
    match wire.next(Duration::from_secs(10)) {
        Next::Answer(answer) => drop(answer.expect_status(400)),
        Next::Closed => {}
        Next::Silent => panic!("neither answered nor closed"),
    }

    for (headers, status) in [
        (&[("content-type", "text/plain")][..], 415),
        (&[("content-type", "application/x-tar"), ("content-encoding", "gzip")], 415),
    ] {
        tenant.send("POST", publish, headers, bundle).expect_status(status);
    }
    tenant.send("POST", "/api/v1/models/.bad/versions/1", TAR, bundle).expect_status(400);
    let long = format!("/api/v1/models/{}/versions/1", "x".repeat(129));
    tenant.send("POST", &long, TAR, bundle).expect_status(400);
    for bad in ["/api/v1/uploads/x", "/api/v1/blobs/sha256:x", "/api/v1/blobs/md5:0"] {
        tenant.get(bad).expect_status(400);
    }
    let absent = format!("{upload}?digest=sha256:x");
    tenant.send("PUT", &absent, &[], b"").expect_status(400);
    tenant.send("PUT", &upload, &[], b"").expect_status(400);
    expect_well(&tenant);
}

#[track_caller]
fn expect_too_large(answer: Answer) {
    let answer = answer.expect_status(413);
    assert!(answer.error().contains("upload_bytes_max"), "{}", answer.error());
    assert!(answer.error().contains("2097152"), "{}", answer.error());
}
