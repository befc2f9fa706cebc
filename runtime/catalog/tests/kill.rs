//! `kill -9` at any moment: a child process works on a catalog and says what was acknowledged; the
//! parent kills it, opens the catalog, and asks for everything the child was promised.
//!
//! A harness of its own, since the child is this very program.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use bytes::Bytes;
use innkeeper_catalog::{
    Catalog, CatalogError, Digest, ModelKey, NewVersion, PublishLimits, Published, TenantName,
    UploadLimits,
};

/// Lines that the child prints before it is killed, per round: each stands for one acknowledged
/// call.
const ROUNDS: [usize; 12] = [1, 2, 3, 5, 7, 8, 11, 14, 17, 23, 38, 61];
const LIMITS: UploadLimits =
    UploadLimits { stored_bytes_max: 1 << 30, upload_bytes_max: 1 << 20, uploads_max: 1000 };
const PUBLISH: PublishLimits =
    PublishLimits { versions_max: 10_000, models_max: 10, stored_bytes_max: 1 << 30 };
const DIR: &str = "INNKEEPER_CATALOG_KILL_DIR";

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    if let Some(dir) = std::env::var_os(DIR) {
        return work(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir()?;
    let mut promised = Promised::default();
    for lines in ROUNDS {
        run_and_kill(dir.path(), lines, &mut promised)?;
        promised.check(dir.path()).await?;
    }
    println!("kill: {} acknowledged calls survived {} kills", promised.calls, ROUNDS.len());
    Ok(())
}

/// What the child was told is safe.
#[derive(Default)]
struct Promised {
    calls: usize,
    /// By upload: the digest it is to have, and how many bytes were acknowledged.
    uploads: HashMap<String, (String, u64)>,
    blobs: Vec<String>,
    versions: Vec<String>,
    stable: Option<String>,
}

fn run_and_kill(dir: &Path, lines: usize, promised: &mut Promised) -> Result<(), Failure> {
    let mut child =
        Command::new(std::env::current_exe()?).env(DIR, dir).stdout(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
    let mut line = String::new();
    for _ in 0..lines {
        line.clear();
        output.read_line(&mut line)?;
        promised.note(&line)?;
    }
    child.kill()?; // SIGKILL, while the child is already at the next call.
    child.wait()?;
    // What it still said before it died was acknowledged as well; only whole lines count.
    line.clear();
    while output.read_line(&mut line)? > 0 && line.ends_with('\n') {
        promised.note(&line)?;
        line.clear();
    }
    Ok(())
}

impl Promised {
    fn note(&mut self, line: &str) -> Result<(), Failure> {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.calls += 1;
        match words[..] {
            ["received", id, digest, bytes] => {
                self.uploads.insert(id.to_owned(), (digest.to_owned(), bytes.parse()?));
            }
            ["finished", id, digest] => {
                self.uploads.remove(id);
                self.blobs.push(digest.to_owned());
            }
            ["stored", digest] => self.blobs.push(digest.to_owned()),
            ["published", version] => self.versions.push(version.to_owned()),
            ["stable", version] => self.stable = Some(version.to_owned()),
            _ => return Err(format!("the child said {line:?}").into()),
        }
        Ok(())
    }

    async fn check(&mut self, dir: &Path) -> Result<(), Failure> {
        let catalog = Catalog::open(dir).await?;
        let acme: TenantName = "acme".parse()?;
        for (id, (digest, received)) in self.uploads.drain() {
            // Less would be loss. More may be there: an append done but not yet said.
            match catalog.upload_offset(&acme, &id.parse()?).await {
                Ok(offset) if offset >= received => {}
                // Finished but not yet said: then the blob is there.
                Err(CatalogError::NotFound { .. }) => self.blobs.push(digest),
                other => return Err(format!("upload {id} of {received}: {other:?}").into()),
            }
        }
        for blob in &self.blobs {
            let digest = blob.parse()?;
            catalog.blob(&digest).await?;
            if catalog.has_blob(&acme, &digest).await?.is_none() {
                return Err(format!("{blob} is no longer acme's").into());
            }
        }
        self.check_models(&catalog).await?;
        catalog.close().await;
        Ok(())
    }

    async fn check_models(&self, catalog: &Catalog) -> Result<(), Failure> {
        let Some(model) = catalog.models().await?.pop() else {
            let none = self.versions.is_empty();
            return if none { Ok(()) } else { Err("every version is lost".into()) };
        };
        let place = |name: &str| model.versions.iter().position(|v| v.version.as_str() == name);
        for promised in &self.versions {
            place(promised).ok_or_else(|| format!("version {promised} is lost"))?;
        }
        for version in &model.versions {
            version.verify()?;
            if version.blobs.len() != 2 {
                return Err(format!("version {} is not whole", version.version).into());
            }
            for blob in &version.blobs {
                catalog.blob(blob).await?;
            }
        }
        // The alias only ever moves forward.
        let stable = model.aliases.first().map(|(_, version)| version.as_str());
        match (self.stable.as_deref().and_then(place), stable.and_then(place)) {
            (promised, found) if found >= promised => Ok(()),
            other => Err(format!("the alias went back: {other:?}").into()),
        }
    }
}

/// The child: uploads, stores, publishes and moves an alias, for ever.
async fn work(dir: &Path) -> Result<(), Failure> {
    let catalog = Catalog::open(dir).await?;
    let acme: TenantName = "acme".parse()?;
    match catalog.create_tenant(&acme).await {
        Ok(()) | Err(CatalogError::Conflict { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let model = ModelKey::new(acme, "digits".parse()?);
    let done = catalog.models().await?.first().map_or(0, |model| model.versions.len());
    for turn in done.. {
        publish_turn(&catalog, &model, turn).await?;
    }
    Ok(())
}

async fn publish_turn(catalog: &Catalog, model: &ModelKey, turn: usize) -> Result<(), Failure> {
    let acme = &model.owner;
    let bytes = Bytes::from(vec![turn.to_le_bytes()[0]; 50_000 + turn]);
    let digest = Digest::of(&bytes);
    let id = catalog.begin_upload(acme, &LIMITS).await?;
    let mut offset = 0;
    for piece in [bytes.slice(..20_000), bytes.slice(20_000..)] {
        offset = catalog.append(acme, &id, offset, piece, &LIMITS).await?;
        say(&format!("received {id} {digest} {offset}"))?;
    }
    catalog.finish_upload(acme, &id, &digest).await?;
    say(&format!("finished {id} {digest}"))?;
    let other = catalog.put_blob(acme, format!("blob {turn}").into(), 1 << 30).await?;
    say(&format!("stored {other}"))?;
    let manifest = format!("manifest {turn}");
    let new = NewVersion {
        model: model.clone(),
        version: turn.to_string().parse()?,
        digest: Digest::of(manifest.as_bytes()),
        manifest,
        facts: String::new(),
        blobs: vec![digest, other],
        aliases: Vec::new(),
        limits: PUBLISH,
    };
    if catalog.publish(&new).await? != Published::New {
        return Err(format!("version {turn} was there before").into());
    }
    say(&format!("published {turn}"))?;
    catalog.set_alias(model, &"stable".parse()?, &new.version).await?;
    Ok(say(&format!("stable {turn}"))?)
}

fn say(line: &str) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}
