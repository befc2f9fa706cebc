//! The data folder: one server at a time, and the first key.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use innkeeper_catalog::{Catalog, CatalogError, Scope, TenantName};

use crate::clock::now_ms;
use crate::failure::{Code, Failure};

/// The tenant whose key a first start makes.
const ADMIN: &str = "admin";
/// Where that key is written, in the data folder.
const ADMIN_KEY_FILE: &str = "admin.key";

/// A data folder that no other server uses as long as this lives.
pub(super) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Takes the folder, and makes it if need be. Only its owner may look into it.
    pub(super) fn take(path: &Path) -> Result<DataFolder> {
        let doing = || format!("cannot use {} as the data folder", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(doing)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let lock = options.open(path.join("lock")).with_context(doing)?;
        match lock.try_lock() {
            Ok(()) => Ok(DataFolder { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(in_use(path).into()),
            Err(TryLockError::Error(error)) => Err(error).with_context(doing),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the administrator and a key on the first start; answers where the key is.
    pub(super) async fn first_key(&self, catalog: &Catalog) -> Result<Option<PathBuf>> {
        let (now_ms, keys) = (now_ms(), catalog.keys().await?);
        if keys.iter().any(|key| key.is_live(now_ms) && key.allows(Scope::Admin)) {
            return Ok(None);
        }
        self.write_key(catalog).await.map(Some)
    }

    /// Makes one more administrator's key, in the file.
    async fn write_key(&self, catalog: &Catalog) -> Result<PathBuf> {
        let admin: TenantName = ADMIN.parse()?;
        ensure_tenant(catalog, &admin).await?;
        let scopes = [Scope::Predict, Scope::Publish, Scope::Admin];
        let (_, secret) = catalog.create_key(&admin, &scopes, ADMIN_KEY_FILE, None).await?;
        let path = self.path.join(ADMIN_KEY_FILE);
        write_secret(&path, &secret).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Makes a new administrator's key in the data folder of a server that is not running, for whoever lost the first.
///
/// # Errors
/// A server is running on the folder, or the catalog does not open.
pub async fn new_admin_key(data: &Path) -> Result<PathBuf> {
    let folder = DataFolder::take(data)?;
    let catalog = Catalog::open(folder.path()).await?;
    let path = folder.write_key(&catalog).await;
    catalog.close().await;
    path
}

/// Makes a tenant unless it is there.
pub(super) async fn ensure_tenant(catalog: &Catalog, tenant: &TenantName) -> Result<()> {
    match catalog.create_tenant(tenant).await {
        Ok(()) | Err(CatalogError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn in_use(path: &Path) -> Failure {
    let text = format!(
        "the data folder {} is in use by another server; stop that one, or give this one another folder by --data",
        path.display()
    );
    Failure::new(Code::Conflict, text)
}

/// The whole file appears at once, and nobody else may ever read it.
fn write_secret(path: &Path, secret: &str) -> std::io::Result<()> {
    let partial = path.with_extension("partial");
    let _ = fs::remove_file(&partial);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_server_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let first = DataFolder::take(&path).unwrap();
        let error = DataFolder::take(&path).map(drop).unwrap_err();
        assert_eq!(crate::failure::code_of(&error), Code::Conflict);
        assert!(error.to_string().contains("in use by another server"), "{error}");
        drop(first);
        DataFolder::take(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn the_first_key_is_made_once_and_is_secret() {
        let data = tempfile::tempdir().unwrap();
        let folder = DataFolder::take(data.path()).unwrap();
        let catalog = Catalog::open(data.path()).await.unwrap();
        let path = folder.first_key(&catalog).await.unwrap().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let secret = fs::read_to_string(&path).unwrap();
        let keys = catalog.keys().await.unwrap();
        assert!(keys.len() == 1 && keys[0].matches(secret.trim()) && keys[0].allows(Scope::Admin));

        assert_eq!(folder.first_key(&catalog).await.unwrap(), None);
        catalog.revoke_key(&keys[0].id).await.unwrap();
        // Nobody could administer this host any more.
        assert!(folder.first_key(&catalog).await.unwrap().is_some());
        catalog.close().await;
        drop((catalog, folder));
        new_admin_key(data.path()).await.unwrap();
        assert_ne!(fs::read_to_string(&path).unwrap(), secret);
    }
}
