//! The data folder: the lock on it, the database in it, and where blobs and uploads lie.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use object_store::local::LocalFileSystem;
use sqlx::{
    Connection, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{CatalogError, Digest};

/// The folder of blobs, and of the files that uploads grow in.
pub(crate) const BLOBS: &str = "blobs";
pub(crate) const UPLOADS: &str = "uploads";
const DATABASE: &str = "catalog.sqlite";
const LOCK: &str = "catalog.lock";

/// Readers beside the one writer. Each costs a thread; reads are short and mostly happen at
/// start-up.
const READERS_MAX: u32 = 4;
/// How long SQLite waits for a lock that a checkpoint, or somebody's `sqlite3`, holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request waits for a connection before it fails.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// An open data folder.
pub(crate) struct Store {
    dir: PathBuf,
    /// One connection: writers queue here instead of meeting `SQLITE_BUSY`.
    writer: SqlitePool,
    readers: SqlitePool,
    /// Rooted at the data folder, so that a finished upload becomes a blob by a rename within it.
    pub(crate) objects: LocalFileSystem,
    /// Held until the catalog is dropped; the system lets go of it when the process dies.
    _lock: File,
}

impl Store {
    /// Opens the folder, makes what is missing in it and brings its tables up to date.
    pub(crate) async fn open(dir: &Path) -> Result<Self, CatalogError> {
        make_folders(dir)?;
        let lock = lock(dir)?;
        let options = SqliteConnectOptions::new()
            .filename(dir.join(DATABASE))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // FULL syncs the log at every commit: what was acknowledged survives a power loss.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let writer = pool(1).connect_with(options.clone()).await?;
        sqlx::migrate!().run(&writer).await.map_err(sqlx::Error::from)?;
        // Read-only, so that a write that bypasses the one writer fails at once instead of now and
        // then.
        let readers = pool(READERS_MAX).connect_with(options.pragma("query_only", "true")).await?;
        sync_folder(dir)?;
        // A plain `put` returns before its bytes are on the disk; with this option it syncs the
        // file and its folder.
        let objects = LocalFileSystem::new_with_prefix(dir)?.with_fsync(true);
        Ok(Self { dir: dir.to_owned(), writer, readers, objects, _lock: lock })
    }

    /// Begins to write. Dropping what comes back without `commit` undoes everything.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Sqlite>, CatalogError> {
        // IMMEDIATE takes the write lock now, so that no other process's write comes between our
        // reads and writes.
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Begins to read: everything that comes from it is of one moment.
    pub(crate) async fn read(&self) -> Result<Transaction<'static, Sqlite>, CatalogError> {
        Ok(self.readers.begin().await?)
    }

    /// Closes the database, after the write that is under way.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// The folder that uploads grow in.
    pub(crate) fn uploads(&self) -> PathBuf {
        self.dir.join(UPLOADS)
    }

    /// The folder of blobs.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.dir.join(BLOBS)
    }
}

/// Where a blob lies. The first byte makes 256 folders, so that none of them becomes huge.
pub(crate) fn blob_path(digest: &Digest) -> object_store::path::Path {
    let hex = digest.hex();
    object_store::path::Path::from_iter([BLOBS, &hex[..2], &hex])
}

/// Makes the entries of `folder` durable, which syncing the files in it does not.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), CatalogError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| CatalogError::io(format!("syncing {}", folder.display()), error))
}

fn pool(connections_max: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        // On a full disk SQLite ends the transaction by itself, sqlx's own rollback fails for that and leaves the
        // connection taken for busy: no transaction could ever begin on it again. Another one takes its place.
        .before_acquire(|connection, _| {
            let usable = !connection.is_in_transaction();
            Box::pin(async move { Ok(usable) })
        })
}

fn make_folders(dir: &Path) -> Result<(), CatalogError> {
    let make = |path: &Path| -> Result<(), CatalogError> {
        let failed = |error| CatalogError::io(format!("making {}", path.display()), error);
        if path.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(path).map_err(failed)?;
        owner_only(path).map_err(failed)
    };
    make(dir)?;
    make(&dir.join(BLOBS))?;
    make(&dir.join(UPLOADS))?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => Ok(()),
    }
}

/// Models and hashes of keys are nobody's business but the host's.
#[cfg(unix)]
fn owner_only(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn owner_only(_path: &Path) -> std::io::Result<()> {
    Ok(())
}

fn lock(dir: &Path) -> Result<File, CatalogError> {
    let path = dir.join(LOCK);
    let failed = |error| CatalogError::io(format!("locking {}", path.display()), error);
    let file = File::options().create(true).append(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CatalogError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
