//! Versions that are tried behind an alias: begun, changed, promoted, rolled back, each in one transaction, and what
//! every alias stood for.

use std::fmt;

use sqlx::{Row, Sqlite, Transaction, sqlite::SqliteRow};

use crate::{
    AliasName, Catalog, CatalogError, ModelKey, VersionName,
    aliases::{Kind, name_kind, point},
    models::no_version,
    row::parsed,
};

type Result<T> = std::result::Result<T, CatalogError>;
type Write = Transaction<'static, Sqlite>;

/// Changes that are kept of one model's aliases, the newest.
const CHANGES_MAX: i64 = 1000;

/// A share of requests, as parts of ten thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u16);

impl Share {
    /// No request.
    pub const NONE: Share = Share(0);
    /// Every request.
    pub const ALL: Share = Share(10_000);

    /// So many of ten thousand; `None` for more than all.
    pub fn of_ten_thousand(parts: u16) -> Option<Share> {
        (parts <= Share::ALL.0).then_some(Share(parts))
    }

    /// How many of ten thousand.
    pub fn ten_thousandths(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 100.0)
    }
}

/// A version that is tried behind an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// The alias.
    pub alias: AliasName,
    /// The version that is tried.
    pub candidate: VersionName,
    /// The share of the alias's requests that the candidate answers.
    pub canary: Share,
    /// The share of the alias's requests that the candidate is shown without answering them.
    pub shadow: Share,
    /// The header whose value decides which version answers.
    pub sticky: String,
    /// When to roll back: JSON that the catalog does not read.
    pub bounds: String,
    /// When the candidate was first tried, in milliseconds since 1970. Not read by [`Catalog::set_rollout`].
    pub created_ms: i64,
}

/// What was done to an alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasAct {
    /// It was pointed at a version.
    Set,
    /// It was deleted.
    Deleted,
    /// A candidate is tried, or with other shares or bounds than before.
    Tried,
    /// The candidate took it over.
    Promoted,
    /// The candidate was taken away, or the alias went back to what it stood for.
    RolledBack,
}

impl AliasAct {
    const ALL: [AliasAct; 5] =
        [Self::Set, Self::Deleted, Self::Tried, Self::Promoted, Self::RolledBack];

    /// How it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Deleted => "deleted",
            Self::Tried => "tried",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolled-back",
        }
    }
}

/// One change of an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasChange {
    /// The order of changes within the model.
    pub sequence: i64,
    /// The alias.
    pub alias: AliasName,
    /// What was done.
    pub act: AliasAct,
    /// What the alias stands for since; nothing when it was deleted.
    pub version: Option<VersionName>,
    /// What it stood for until then; nothing when it is new.
    pub before: Option<VersionName>,
    /// The version that was tried, if one was.
    pub candidate: Option<VersionName>,
    /// Why, in words; empty where nobody said.
    pub why: String,
    /// When, in milliseconds since 1970.
    pub created_ms: i64,
}

/// Which rollout is meant, so that one that has taken its place is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutId {
    /// The alias.
    pub alias: AliasName,
    /// The version that is tried.
    pub candidate: VersionName,
    /// When it was first tried.
    pub created_ms: i64,
}

impl Catalog {
    /// Tries a version behind an alias, or changes how it is tried.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`] for the alias or the version, and [`CatalogError::Conflict`] when the alias stands
    /// for that version already.
    pub async fn set_rollout(&self, key: &ModelKey, rollout: &Rollout) -> Result<()> {
        let mut write = self.inner.store.write().await?;
        let Rollout { alias, candidate, .. } = rollout;
        let version = stands_for(&mut write, key, alias).await?;
        if name_kind(&mut write, key, candidate.as_str()).await? != Some(Kind::Version) {
            return Err(no_version(key, candidate));
        }
        if version == *candidate {
            let what = format!("rollout of {candidate} to the alias {alias} of model {key}");
            let why = "the alias stands for that version already".to_owned();
            return Err(CatalogError::Conflict { what, why });
        }
        let now_ms = self.inner.now_ms();
        let before = rollout_of(&mut write, key, alias).await?;
        let same = before.filter(|before| before.candidate == *candidate);
        let created_ms = same.map_or(now_ms, |before| before.created_ms);
        write_rollout(&mut write, key, &Rollout { created_ms, ..rollout.clone() }).await?;
        let why = format!("canary {}, shadow {}", rollout.canary, rollout.shadow);
        let change = Change {
            act: AliasAct::Tried,
            alias,
            version: Some(&version),
            before: Some(&version),
            candidate: Some(candidate),
            why: &why,
        };
        self.note(&mut write, key, change).await?;
        self.inner.step("rollout: written")?;
        Ok(write.commit().await?)
    }

    /// Lets the candidate take the alias over, and gives back its name.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`] for the alias, and [`CatalogError::Conflict`] when nothing is tried behind it.
    pub async fn promote(&self, key: &ModelKey, alias: &AliasName) -> Result<VersionName> {
        let mut write = self.inner.store.write().await?;
        let before = stands_for(&mut write, key, alias).await?;
        let Some(Rollout { candidate, .. }) = rollout_of(&mut write, key, alias).await? else {
            return Err(no_rollout(key, alias));
        };
        point(&mut write, key, alias, &candidate).await?;
        let change = Change {
            act: AliasAct::Promoted,
            alias,
            version: Some(&candidate),
            before: Some(&before),
            candidate: Some(&candidate),
            why: "",
        };
        self.note(&mut write, key, change).await?;
        self.inner.step("promote: written")?;
        write.commit().await?;
        Ok(candidate)
    }

    /// Takes the candidate away. Where none is tried the alias goes back to the version that it stood for before, so
    /// that a second time brings back what the first took away. Gives back what the alias stands for now.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`] for the alias, and [`CatalogError::Conflict`] when there is nothing to go back to.
    pub async fn roll_back(
        &self,
        key: &ModelKey,
        alias: &AliasName,
        why: &str,
    ) -> Result<VersionName> {
        let mut write = self.inner.store.write().await?;
        let version = stands_for(&mut write, key, alias).await?;
        let tried = rollout_of(&mut write, key, alias).await?;
        let now = match &tried {
            Some(_) => version.clone(),
            None => stood_for(&mut write, key, alias, &version).await?,
        };
        let candidate = tried.as_ref().map(|tried| &tried.candidate);
        self.go_back(&mut write, key, alias, [&version, &now], candidate, why).await?;
        write.commit().await?;
        Ok(now)
    }

    /// Takes this candidate away and no other; gives back whether it was still tried.
    pub async fn end_rollout(&self, key: &ModelKey, id: &RolloutId, why: &str) -> Result<bool> {
        let mut write = self.inner.store.write().await?;
        let tried = rollout_of(&mut write, key, &id.alias).await?;
        let same = |tried: &Rollout| {
            (&tried.candidate, tried.created_ms) == (&id.candidate, id.created_ms)
        };
        if !tried.as_ref().is_some_and(same) {
            return Ok(false);
        }
        let version = stands_for(&mut write, key, &id.alias).await?;
        let (alias, candidate) = (&id.alias, Some(&id.candidate));
        self.go_back(&mut write, key, alias, [&version, &version], candidate, why).await?;
        write.commit().await?;
        Ok(true)
    }

    /// What was done to an alias, the newest first and at most `max`.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`] for the model.
    pub async fn alias_changes(
        &self,
        key: &ModelKey,
        alias: &AliasName,
        max: u32,
    ) -> Result<Vec<AliasChange>> {
        self.model(key).await?;
        let mut read = self.inner.store.read().await?;
        let rows = sqlx::query(
            "SELECT * FROM alias_changes WHERE owner = ? AND model = ? AND alias = ?
              ORDER BY sequence DESC LIMIT ?",
        )
        .bind(key.owner.as_str())
        .bind(key.name.as_str())
        .bind(alias.as_str())
        .bind(max)
        .fetch_all(&mut *read)
        .await?;
        rows.iter().map(change).collect()
    }

    /// Points the alias at the second version instead of the first, without a candidate.
    async fn go_back(
        &self,
        write: &mut Write,
        key: &ModelKey,
        alias: &AliasName,
        [before, now]: [&VersionName; 2],
        candidate: Option<&VersionName>,
        why: &str,
    ) -> Result<()> {
        point(write, key, alias, now).await?;
        let (act, version, before) = (AliasAct::RolledBack, Some(now), Some(before));
        self.note(write, key, Change { act, alias, version, before, candidate, why }).await
    }

    /// Writes a change down, and forgets the oldest beyond what is kept.
    pub(crate) async fn note(
        &self,
        write: &mut Write,
        key: &ModelKey,
        change: Change<'_>,
    ) -> Result<()> {
        let sequence: i64 = sqlx::query_scalar(
            "SELECT coalesce(max(sequence), 0) + 1 FROM alias_changes
              WHERE owner = ? AND model = ?",
        )
        .bind(key.owner.as_str())
        .bind(key.name.as_str())
        .fetch_one(&mut **write)
        .await?;
        sqlx::query(
            "INSERT INTO alias_changes
                 (owner, model, sequence, alias, act, version, before, candidate, why, created_ms)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(key.owner.as_str())
        .bind(key.name.as_str())
        .bind(sequence)
        .bind(change.alias.as_str())
        .bind(change.act.as_str())
        .bind(change.version.map(VersionName::as_str))
        .bind(change.before.map(VersionName::as_str))
        .bind(change.candidate.map(VersionName::as_str))
        .bind(change.why)
        .bind(self.inner.now_ms())
        .execute(&mut **write)
        .await?;
        sqlx::query("DELETE FROM alias_changes WHERE owner = ? AND model = ? AND sequence <= ?")
            .bind(key.owner.as_str())
            .bind(key.name.as_str())
            .bind(sequence - CHANGES_MAX)
            .execute(&mut **write)
            .await?;
        Ok(())
    }
}

/// A change as it is written down.
pub(crate) struct Change<'a> {
    pub(crate) act: AliasAct,
    pub(crate) alias: &'a AliasName,
    pub(crate) version: Option<&'a VersionName>,
    pub(crate) before: Option<&'a VersionName>,
    pub(crate) candidate: Option<&'a VersionName>,
    pub(crate) why: &'a str,
}

/// The version that the alias stands for.
pub(crate) async fn stands_for(
    write: &mut Write,
    key: &ModelKey,
    alias: &AliasName,
) -> Result<VersionName> {
    let found = find(write, key, alias).await?;
    found.ok_or_else(|| CatalogError::not_found(format!("alias {alias} of model {key}")))
}

/// The version that the alias stands for, if there is such an alias.
pub(crate) async fn find(
    write: &mut Write,
    key: &ModelKey,
    alias: &AliasName,
) -> Result<Option<VersionName>> {
    let version: Option<String> = sqlx::query_scalar(
        "SELECT version FROM aliases WHERE owner = ? AND model = ? AND alias = ?",
    )
    .bind(key.owner.as_str())
    .bind(key.name.as_str())
    .bind(alias.as_str())
    .fetch_optional(&mut **write)
    .await?;
    version.map(|version| parsed(&version)).transpose()
}

/// What the alias stood for before `version`, among what is still there.
async fn stood_for(
    write: &mut Write,
    key: &ModelKey,
    alias: &AliasName,
    version: &VersionName,
) -> Result<VersionName> {
    let found: Option<String> = sqlx::query_scalar(
        "SELECT c.before FROM alias_changes c
           JOIN versions v ON v.owner = c.owner AND v.model = c.model AND v.version = c.before
          WHERE c.owner = ? AND c.model = ? AND c.alias = ? AND c.before <> ?
          ORDER BY c.sequence DESC LIMIT 1",
    )
    .bind(key.owner.as_str())
    .bind(key.name.as_str())
    .bind(alias.as_str())
    .bind(version.as_str())
    .fetch_optional(&mut **write)
    .await?;
    let Some(found) = found else {
        let what = format!("alias {alias} of model {key}");
        let why = format!("it stood for no other version than {version} that is still there");
        return Err(CatalogError::Conflict { what, why });
    };
    parsed(&found)
}

async fn rollout_of(
    write: &mut Write,
    key: &ModelKey,
    alias: &AliasName,
) -> Result<Option<Rollout>> {
    let row = sqlx::query("SELECT * FROM rollouts WHERE owner = ? AND model = ? AND alias = ?")
        .bind(key.owner.as_str())
        .bind(key.name.as_str())
        .bind(alias.as_str())
        .fetch_optional(&mut **write)
        .await?;
    row.as_ref().map(rollout).transpose()
}

async fn write_rollout(write: &mut Write, key: &ModelKey, rollout: &Rollout) -> Result<()> {
    sqlx::query(
        "INSERT INTO rollouts
             (owner, model, alias, version, canary, shadow, sticky, bounds, created_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (owner, model, alias) DO UPDATE SET version = excluded.version,
                 canary = excluded.canary, shadow = excluded.shadow, sticky = excluded.sticky,
                 bounds = excluded.bounds, created_ms = excluded.created_ms",
    )
    .bind(key.owner.as_str())
    .bind(key.name.as_str())
    .bind(rollout.alias.as_str())
    .bind(rollout.candidate.as_str())
    .bind(rollout.canary.ten_thousandths())
    .bind(rollout.shadow.ten_thousandths())
    .bind(&rollout.sticky)
    .bind(&rollout.bounds)
    .bind(rollout.created_ms)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// A rollout as the database gave it.
pub(crate) fn rollout(row: &SqliteRow) -> Result<Rollout> {
    let share = |column: &str| -> Result<Share> {
        let parts: i64 = row.try_get(column)?;
        let share = u16::try_from(parts).ok().and_then(Share::of_ten_thousand);
        let what = || format!("a rollout has a {column} of {parts}");
        share.ok_or_else(|| CatalogError::Damaged { what: what() })
    };
    Ok(Rollout {
        alias: parsed(row.try_get("alias")?)?,
        candidate: parsed(row.try_get("version")?)?,
        canary: share("canary")?,
        shadow: share("shadow")?,
        sticky: row.try_get("sticky")?,
        bounds: row.try_get("bounds")?,
        created_ms: row.try_get("created_ms")?,
    })
}

fn change(row: &SqliteRow) -> Result<AliasChange> {
    let version = |column: &str| -> Result<Option<VersionName>> {
        let version: Option<&str> = row.try_get(column)?;
        version.map(parsed).transpose()
    };
    let act: &str = row.try_get("act")?;
    let known = AliasAct::ALL.into_iter().find(|known| known.as_str() == act);
    let what = || format!("an alias was {act:?}");
    Ok(AliasChange {
        sequence: row.try_get("sequence")?,
        alias: parsed(row.try_get("alias")?)?,
        act: known.ok_or_else(|| CatalogError::Damaged { what: what() })?,
        version: version("version")?,
        before: version("before")?,
        candidate: version("candidate")?,
        why: row.try_get("why")?,
        created_ms: row.try_get("created_ms")?,
    })
}

fn no_rollout(key: &ModelKey, alias: &AliasName) -> CatalogError {
    CatalogError::Conflict {
        what: format!("alias {alias} of model {key}"),
        why: "no version is tried behind it; begin a rollout first".to_owned(),
    }
}
