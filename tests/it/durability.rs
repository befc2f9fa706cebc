//! What was acknowledged outlives everything: kills at any moment, damaged files, a full disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use innkeeper_catalog::Digest;
use serde_json::{Value, json};

use super::harness::{Answer, Client, Server, guest};
use super::parts;
use super::wire::{Next, Wire, request};

/// How often the server is killed.
const KILLS: usize = 15;
/// No operation here takes longer, not even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % below
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.roll(256) as u8).collect()
    }
}

/// How far a change came, as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Sent and not answered: it happened or not.
    Open,
    /// Acknowledged.
    Done,
}

/// What the clients have sent and what they were told, over all kills.
#[derive(Default)]
struct Ledger {
    /// Versions by model and name: the digest, and how far their publishing came.
    versions: BTreeMap<(String, String), (Digest, Fate)>,
    /// How many versions were acknowledged, deleted ones too.
    published: usize,
    /// Versions that were to be deleted.
    deleted: BTreeMap<(String, String), Fate>,
    /// Where the alias stands, and where it may stand as well.
    alias: (String, Option<String>),
    /// Uploads by path.
    uploads: BTreeMap<String, Upload>,
    /// Blobs that were acknowledged, with their size.
    blobs: BTreeMap<String, usize>,
}

#[derive(Default)]
struct Upload {
    bytes: Vec<u8>,
    /// Acknowledged.
    safe: usize,
    /// Sent.
    sent: usize,
    finishing: bool,
}

/// Counts what clients begin, so that the kill comes at a chosen one.
#[derive(Default)]
struct Starts(Mutex<usize>, Condvar);

impl Starts {
    fn one(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }

    fn wait_for(&self, count: usize) {
        let begun = self.0.lock().unwrap();
        drop(self.1.wait_timeout_while(begun, PATIENCE, |begun| *begun < count).unwrap());
    }
}

/// One client that is still alive when its server no longer is.
struct Worker<'a> {
    wire: Wire,
    key: &'a str,
    starts: &'a Starts,
    ledger: &'a Mutex<Ledger>,
    dice: Dice,
}

impl Worker<'_> {
    /// The answer, none when the server died. Nothing that these clients send is wrong.
    fn ask(&mut self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Option<Answer> {
        self.starts.one();
        self.wire.send(&request(self.key, method, path, headers, body));
        match self.wire.next(PATIENCE) {
            Next::Answer(answer) => {
                assert!(answer.status < 300, "{method} {path}: {}", answer.text());
                Some(answer)
            }
            Next::Closed => None,
            Next::Silent => panic!("{method} {path}: no answer"),
        }
    }

    /// Publishes versions of one model, each with weights of its own, and deletes old ones.
    fn publish(&mut self, model: &str, round: usize) -> Option<()> {
        let digits = &guest("plugins/digits").bundle;
        let mut weights = parts::asset(digits).to_vec();
        for n in 0.. {
            let name = (model.to_owned(), format!("r{round}-{n}"));
            let end = weights.len();
            weights[end - 2..].copy_from_slice(&(self.dice.roll(0x3f00) as u16).to_le_bytes());
            weights[end - 4..end - 2].copy_from_slice(&((round * 1_000 + n) as u16).to_le_bytes());
            let bundle = parts::with_asset(digits, &weights);
            let digest = parts::read(&bundle).digest();
            self.ledger.lock().unwrap().versions.insert(name.clone(), (digest, Fate::Open));
            let path = format!("/api/v1/models/{model}/versions/{}", name.1);
            self.ask("POST", &path, &["content-type: application/x-tar"], &bundle)?;
            let mut ledger = self.ledger.lock().unwrap();
            ledger.versions.insert(name, (digest, Fate::Done));
            ledger.published += 1;
            drop(ledger);
            if n % 3 == 2 {
                self.delete_oldest(model)?;
            }
        }
        None
    }

    fn delete_oldest(&mut self, model: &str) -> Option<()> {
        let mut ledger = self.ledger.lock().unwrap();
        let mut done = ledger.versions.iter().filter(|(name, (_, fate))| {
            name.0 == model && *fate == Fate::Done && !ledger.deleted.contains_key(*name)
        });
        let name = done.next().map(|(name, _)| name.clone())?;
        ledger.deleted.insert(name.clone(), Fate::Open);
        drop(ledger);
        self.ask("DELETE", &format!("/api/v1/models/{model}/versions/{}", name.1), &[], b"")?;
        self.ledger.lock().unwrap().deleted.insert(name, Fate::Done);
        Some(())
    }

    fn move_alias(&mut self) -> Option<()> {
        loop {
            let to = ["one", "two"][self.dice.roll(2)];
            self.ledger.lock().unwrap().alias.1 = Some(to.to_owned());
            let body = json!({ "version": to }).to_string();
            self.ask("PUT", "/api/v1/models/fixed/aliases/stable", &[], body.as_bytes())?;
            self.ledger.lock().unwrap().alias = (to.to_owned(), None);
        }
    }

    fn upload(&mut self) -> Option<()> {
        loop {
            let begun = self.ask("POST", "/api/v1/uploads", &[], b"")?;
            let path = format!("/api/v1/uploads/{}", begun.json()["upload"].as_str().unwrap());
            let len = 1 + self.dice.roll(400_000);
            let bytes = self.dice.bytes(len);
            let upload = Upload { bytes: bytes.clone(), ..Upload::default() };
            self.ledger.lock().unwrap().uploads.insert(path.clone(), upload);
            let mut at = 0;
            while at < len {
                let end = len.min(at + 1 + self.dice.roll(150_000));
                self.change(&path, |upload| upload.sent = end);
                self.ask("PATCH", &path, &[&format!("upload-offset: {at}")], &bytes[at..end])?;
                self.change(&path, |upload| upload.safe = end);
                at = end;
            }
            self.change(&path, |upload| upload.finishing = true);
            let digest = Digest::of(&bytes);
            self.ask("PUT", &format!("{path}?digest={digest}"), &[], b"")?;
            let mut ledger = self.ledger.lock().unwrap();
            ledger.uploads.remove(&path);
            ledger.blobs.insert(digest.to_string(), len);
        }
    }

    fn change(&self, path: &str, change: impl FnOnce(&mut Upload)) {
        change(self.ledger.lock().unwrap().uploads.get_mut(path).unwrap());
    }
}

fn picture() -> Value {
    json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 64], "data": vec![0.0; 64] }])
}

fn row() -> Value {
    json!([{ "name": "INPUT0", "datatype": "FP32", "shape": [1, 16], "data": vec![1.0; 16] }])
}

fn version_of(client: &Client, model: &str, slot: &str) -> String {
    let path = format!("/v2/models/{model}/versions/{slot}/infer");
    let answer = client.post(&path, &json!({ "inputs": picture() })).expect_status(200).json();
    answer["model_version"].as_str().unwrap().to_owned()
}

/// Clients publish, delete, upload and move an alias; the server is killed in the midst of it, again and again.
#[test]
fn nothing_acknowledged_is_lost_by_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut server = Server::on(&data, &[]);
    let tenant = server.tenant("acme");
    let digits = &guest("plugins/digits").bundle;
    tenant.publish("fixed", "one", digits).expect_status(201);
    tenant.publish("fixed", "two", &parts::always(digits, 3)).expect_status(201);
    let body = json!({ "version": "one" });
    tenant.put("/api/v1/models/fixed/aliases/stable", &body).expect_status(200);

    let ledger = Mutex::new(Ledger { alias: ("one".into(), None), ..Ledger::default() });
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..KILLS {
        load_and_kill(server, &tenant.key, &ledger, round, &mut dice);
        server = Server::on(&data, &[]);
        check(&server.client(&tenant.key), &mut ledger.lock().unwrap(), &mut dice);
        let log = server.log();
        assert!(!log.contains("ERROR") && !log.contains("\"level\":\"error\""), "{log}");
    }
    let ledger = ledger.into_inner().unwrap();
    let done = (ledger.published, ledger.versions.len(), ledger.blobs.len());
    assert!(
        done.0 > 2 * KILLS && done.0 > done.1 && done.2 > KILLS,
        "too little was done: {done:?}"
    );

    drop(server.kill());
    check_swept(&data, &tenant.key, &folder.path().join("sweep.toml"));
}

fn load_and_kill(server: Server, key: &str, ledger: &Mutex<Ledger>, round: usize, dice: &mut Dice) {
    let starts = Starts::default();
    let worker = |seed: usize| Worker {
        wire: Wire::connect(&server.url).unwrap(),
        key,
        starts: &starts,
        ledger,
        dice: Dice((round * 16 + seed + 1) as u64 * 0x2545_f491_4f6c_dd1d),
    };
    let mut workers = [worker(0), worker(1), worker(2), worker(3)];
    let (count, spin) = (1 + dice.roll(150), Duration::from_micros(dice.roll(4_000) as u64));
    std::thread::scope(|scope| {
        let [a, b, c, d] = &mut workers;
        scope.spawn(move || a.publish("a", round));
        scope.spawn(move || b.publish("b", round));
        scope.spawn(|| c.move_alias());
        scope.spawn(|| d.upload());
        starts.wait_for(count);
        // Any moment of an operation, not just its beginning.
        let began = Instant::now();
        while began.elapsed() < spin {
            std::hint::spin_loop();
        }
        drop(server.kill());
    });
}

/// Holds what the server has against what its clients know, and settles what they did not.
fn check(client: &Client, ledger: &mut Ledger, dice: &mut Dice) {
    check_versions(client, ledger, dice);
    check_alias(client, ledger);
    check_uploads(client, ledger);
    for (digest, size) in &ledger.blobs {
        let blob = client.get(&format!("/api/v1/blobs/{digest}")).expect_status(200).json();
        assert_eq!(blob["size"], *size);
    }
}

fn check_versions(client: &Client, ledger: &mut Ledger, dice: &mut Dice) {
    let listed = client.get("/api/v1/models").expect_status(200).json();
    let mut present = BTreeMap::new();
    for model in listed["models"].as_array().unwrap() {
        let name = model["name"].as_str().unwrap();
        for version in model["versions"].as_array().unwrap().iter().filter(|_| name != "fixed") {
            let version_name = version["version"].as_str().unwrap().to_owned();
            let digest: Digest = version["digest"].as_str().unwrap().parse().unwrap();
            present.insert((name.to_owned(), version_name), digest);
        }
    }
    let deleted = std::mem::take(&mut ledger.deleted);
    let mut to_try = Vec::new();
    ledger.versions.retain(|name, (digest, fate)| {
        let there = present.remove(name);
        assert!(there.is_none_or(|there| there == *digest), "{name:?} is another");
        match (deleted.get(name), *fate) {
            (Some(Fate::Done), _) => assert!(there.is_none(), "{name:?} was deleted"),
            (None, Fate::Done) => assert!(there.is_some(), "{name:?} was acknowledged"),
            (Some(Fate::Open), _) | (None, Fate::Open) => {}
        }
        if there.is_some() && (*fate == Fate::Open || dice.roll(8) == 0) {
            to_try.push(name.clone());
        }
        if there.is_none() {
            client.get(&format!("/v2/models/{}/versions/{}", name.0, name.1)).expect_status(404);
        }
        *fate = Fate::Done;
        there.is_some()
    });
    assert!(present.is_empty(), "nobody published {present:?}");
    for (model, version) in to_try {
        assert_eq!(version_of(client, &model, &version), version, "it works");
    }
}

fn check_alias(client: &Client, ledger: &mut Ledger) {
    let stands = version_of(client, "fixed", "stable");
    let (safe, open) = &ledger.alias;
    assert!(stands == *safe || Some(&stands) == open.as_ref(), "{stands}: {safe}, {open:?}");
    let shown = client.get("/api/v1/models/fixed/aliases/stable").json();
    assert_eq!(shown["version"], stands.as_str());
    ledger.alias = (stands, None);
}

fn check_uploads(client: &Client, ledger: &mut Ledger) {
    for (path, upload) in std::mem::take(&mut ledger.uploads) {
        let digest = Digest::of(&upload.bytes);
        let answer = client.get(&path);
        if answer.status == 404 {
            assert!(upload.finishing, "{path} is gone");
            client.get(&format!("/api/v1/blobs/{digest}")).expect_status(200);
        } else {
            let at = answer.expect_status(200).json()["offset"].as_u64().unwrap() as usize;
            assert!((upload.safe..=upload.sent).contains(&at), "{at} of {}", upload.safe);
            let offset = at.to_string();
            let headers = [("upload-offset", offset.as_str())];
            client.send("PATCH", &path, &headers, &upload.bytes[at..]).expect_status(200);
            client.send("PUT", &format!("{path}?digest={digest}"), &[], b"").expect_status(201);
        }
        ledger.blobs.insert(digest.to_string(), upload.bytes.len());
    }
}

/// With lifetimes of nothing, a start leaves the blobs of versions and nothing else.
fn check_swept(data: &Path, key: &str, file: &Path) {
    std::fs::write(file, "[catalog]\nunreferenced_blob_ttl_ms = 0\nstale_upload_ttl_ms = 0\n")
        .unwrap();
    let before = blobs(data).len();
    let server = Server::on(data, &["--config", file.to_str().unwrap()]);
    let client = server.client(key);
    let mut wanted = BTreeSet::new();
    let listed = client.get("/api/v1/models").expect_status(200).json();
    for model in listed["models"].as_array().unwrap() {
        let name = model["name"].as_str().unwrap();
        for version in model["versions"].as_array().unwrap() {
            let version = version["version"].as_str().unwrap();
            assert_eq!(version_of(&client, name, version), version);
            let whole = client.get(&format!("/api/v1/models/{name}/versions/{version}")).json();
            let digest = |part: &Value| part["digest"].as_str().unwrap().to_owned();
            wanted.insert(digest(&whole["manifest"]["component"]));
            wanted.extend(whole["manifest"]["assets"].as_array().unwrap().iter().map(digest));
        }
    }
    let left = blobs(data);
    assert!(before > left.len(), "there were orphans");
    assert_eq!(left, wanted);
    assert_eq!(std::fs::read_dir(data.join("uploads")).unwrap().count(), 0);
}

/// The digests of every file among the blobs, each of which is what its name says.
fn blobs(data: &Path) -> BTreeSet<String> {
    let folders = std::fs::read_dir(data.join("blobs")).unwrap();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    files
        .map(|file| {
            let path = file.unwrap().path();
            let digest = Digest::of(&std::fs::read(&path).unwrap());
            assert_eq!(path.file_name().unwrap().to_str().unwrap(), digest.hex());
            digest.to_string()
        })
        .collect()
}

fn blob_file(data: &Path, digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    data.join("blobs").join(&hex[..2]).join(&hex)
}

fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn artefacts(data: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(data.join("artefacts")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "artefact")).collect()
}

/// A flipped bit is found before it is used, harms that model alone, and is mended by sending the bundle again.
#[test]
fn damaged_files_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (digits, add_one) = (guest("plugins/digits"), guest("plugins/add-one"));
    let asset = Digest::of(&parts::asset(&digits.bundle));
    let component = Digest::of(&digits.component);
    let server = Server::on(&data, &[]);
    let key = server.tenant("acme").key;
    for (model, bundle) in [("digits", &digits.bundle), ("add-one", &add_one.bundle)] {
        server.client(&key).publish(model, "1", bundle).expect_status(201);
    }
    let right = server.client(&key).infer("digits", picture()).expect_status(200).json();
    drop(server);

    let no_artefacts =
        || artefacts(&data).iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let cases: [(&str, &dyn Fn(), Option<Digest>); 4] = [
        ("an asset", &|| flip(&blob_file(&data, &asset)), Some(asset)),
        (
            "an asset that is gone",
            &|| std::fs::remove_file(blob_file(&data, &asset)).unwrap(),
            Some(asset),
        ),
        (
            "a component",
            &|| {
                no_artefacts();
                flip(&blob_file(&data, &component));
            },
            Some(component),
        ),
        ("compiled code", &|| artefacts(&data).iter().for_each(|path| flip(path)), None),
    ];
    for (what, damage, found) in cases {
        damage();
        let server = Server::on(&data, &[]);
        let client = server.client(&key);
        let answer = client.infer("digits", picture());
        client.infer("add-one", row()).expect_status(200);
        if let Some(digest) = found {
            assert_eq!(answer.status, 500, "{what}: {}", answer.text());
            assert!(answer.error().contains("cannot be loaded"), "{what}: {}", answer.error());
            assert!(server.log().contains(&digest.to_string()), "{what}: {}", server.log());
            client.publish("digits", "1", &digits.bundle).expect_status(200);
        } else {
            assert!(server.log().contains("compiled code was changed on disk"), "{}", server.log());
        }
        let again = client.infer("digits", picture()).expect_status(200).json();
        assert_eq!(again["outputs"], right["outputs"], "{what}");
        drop(server);
        // What was mended stays so.
        let server = Server::on(&data, &[]);
        server.client(&key).infer("digits", picture()).expect_status(200);
        assert!(!server.log().contains("changed on disk"), "{what}: {}", server.log());
    }
}

/// A file system of a few MiB, unmounted at the end.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    /// None where the machine does not let us mount one.
    fn mount() -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=6m", "innkeeper-test"])
            .arg(folder.path())
            .output();
        mounted.is_ok_and(|done| done.status.success()).then(|| SmallDisk { folder })
    }

    fn remount(&self, how: &str) {
        let remount = format!("remount,{how}");
        let done = Command::new("mount").args(["-o", &remount]).arg(self.folder.path()).status();
        assert!(done.unwrap().success(), "{how}");
    }

    /// Takes all the room there is but so many bytes.
    fn fill(&self, leave: u64) -> PathBuf {
        let path = self.folder.path().join("ballast");
        let mut file = std::fs::File::create(&path).unwrap();
        let block = [0xaa; 4096];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        let len = file.metadata().unwrap().len();
        file.set_len(len.saturating_sub(leave)).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

#[test]
fn a_full_disk_is_told_and_survived() {
    let Some(disk) = SmallDisk::mount() else {
        println!("SKIPPED: a_full_disk_is_told_and_survived needs the right to mount a tmpfs");
        eprintln!("SKIPPED: a_full_disk_is_told_and_survived needs the right to mount a tmpfs");
        return;
    };
    let data = disk.folder.path().join("data");
    let mut server = Server::on(&data, &[]);
    let tenant = server.tenant("acme");
    let add_one = &guest("plugins/add-one").bundle;
    let digits = &guest("plugins/digits").bundle;
    tenant.publish("m", "1", add_one).expect_status(201);
    let begun = tenant.post("/api/v1/uploads", &json!({})).expect_status(201).json();
    let upload = format!("/api/v1/uploads/{}", begun["upload"].as_str().unwrap());

    let ballast = disk.fill(32 << 10);
    let bytes = Dice(1).bytes(500_000);
    let patch = |bytes: &[u8]| tenant.send("PATCH", &upload, &[("upload-offset", "0")], bytes);
    let full = [("an upload", patch(&bytes)), ("a publish", tenant.publish("m2", "1", digits))];
    for (what, answer) in full {
        assert_eq!(answer.status, 507, "{what}: {}", answer.text());
        assert_eq!(answer.json()["code"], "disk_full", "{what}: {}", answer.text());
        assert!(answer.error().contains("disk is full"), "{what}: {}", answer.error());
    }
    drop(disk.fill(0));
    // Small changes meet the same end at some point; whatever they say, they say it rightly.
    let mut refused = 0;
    for i in 0..200 {
        let body = json!({ "version": "1" });
        let answer = tenant.put(&format!("/api/v1/models/m/aliases/a{}", i % 90), &body);
        assert!([200, 507].contains(&answer.status), "{i}: {} {}", answer.status, answer.text());
        refused += usize::from(answer.status == 507);
    }
    assert!(refused > 0, "the disk was full");
    // What is there works on, nothing half-made is seen.
    tenant.infer("m", row()).expect_status(200);
    tenant.get("/api/v1/models/m2").expect_status(404);
    assert_eq!(tenant.get(&upload).expect_status(200).json()["offset"], 0);
    tenant.get("/v2/health/ready").expect_status(200);

    // With room again, all goes on without a restart.
    std::fs::remove_file(ballast).unwrap();
    patch(&bytes).expect_status(200);
    let body = json!({ "version": "1" });
    tenant.put("/api/v1/models/m/aliases/stable", &body).expect_status(200);
    tenant.publish("m2", "1", digits).expect_status(201);
    tenant.infer("m2", picture()).expect_status(200);

    let key = tenant.key.clone();
    assert!(server.terminate().success());
    drop(server);
    check_full_start(&disk, &data, &key);
}

/// A server does not start where it cannot write, says so, and starts again when it can.
fn check_full_start(disk: &SmallDisk, data: &Path, key: &str) {
    disk.remount("ro");
    let output = Command::new(env!("CARGO_BIN_EXE_innkeeper"))
        .args(["serve", "--http", "127.0.0.1:0", "--data"])
        .arg(data)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("Read-only file system"), "{text}");
    assert!(text.contains(data.to_str().unwrap()), "{text}");
    disk.remount("rw");
    let server = Server::on(data, &[]);
    server.client(key).infer("m2", picture()).expect_status(200);
}
