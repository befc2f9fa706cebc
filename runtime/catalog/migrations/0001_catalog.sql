-- What exists. Plain keys and constraints only, so that the same tables can stand in PostgreSQL:
-- no rowid, no triggers, times as milliseconds since 1970, digests as their 32 bytes.

CREATE TABLE tenants (
    name       TEXT    NOT NULL PRIMARY KEY,
    limits     TEXT,                           -- JSON that the catalog does not read
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE keys (
    id         TEXT    NOT NULL PRIMARY KEY,
    tenant     TEXT    NOT NULL REFERENCES tenants (name),
    hash       BLOB    NOT NULL UNIQUE,        -- SHA-256 of the secret, which is kept nowhere
    scopes     TEXT    NOT NULL,               -- separated by commas
    label      TEXT    NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    revoked_ms INTEGER
) STRICT;

CREATE INDEX keys_by_tenant ON keys (tenant);

-- A blob is here once its bytes are on the disk.
CREATE TABLE blobs (
    digest     BLOB    NOT NULL PRIMARY KEY,
    size       INTEGER NOT NULL CHECK (size >= 0),
    created_ms INTEGER NOT NULL
) STRICT;

-- Which tenants have sent a blob. The bytes are stored once, and counted in full for each of them.
CREATE TABLE blob_owners (
    tenant     TEXT    NOT NULL REFERENCES tenants (name),
    digest     BLOB    NOT NULL REFERENCES blobs (digest),
    touched_ms INTEGER NOT NULL,               -- when the tenant last sent it or asked for it
    PRIMARY KEY (tenant, digest)
) STRICT;

CREATE INDEX blob_owners_by_digest ON blob_owners (digest);

CREATE TABLE uploads (
    id         TEXT    NOT NULL PRIMARY KEY,
    tenant     TEXT    NOT NULL REFERENCES tenants (name),
    received   INTEGER NOT NULL CHECK (received >= 0), -- bytes acknowledged; the file may hold more
    finishing  BLOB,                                   -- the digest of the bytes, once verified
    created_ms INTEGER NOT NULL,
    touched_ms INTEGER NOT NULL
) STRICT;

CREATE INDEX uploads_by_tenant ON uploads (tenant);

CREATE TABLE models (
    owner      TEXT    NOT NULL REFERENCES tenants (name),
    model      TEXT    NOT NULL,
    sharing    TEXT    NOT NULL CHECK (sharing IN ('private', 'tenants', 'all')),
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (owner, model)
) STRICT;

CREATE TABLE model_shares (
    owner  TEXT NOT NULL,
    model  TEXT NOT NULL,
    tenant TEXT NOT NULL REFERENCES tenants (name),
    PRIMARY KEY (owner, model, tenant),
    FOREIGN KEY (owner, model) REFERENCES models (owner, model) ON DELETE CASCADE
) STRICT;

-- One name space for the versions and aliases of a model: a caller writes either in the same place.
CREATE TABLE model_names (
    owner TEXT NOT NULL,
    model TEXT NOT NULL,
    name  TEXT NOT NULL,
    kind  TEXT NOT NULL CHECK (kind IN ('version', 'alias')),
    PRIMARY KEY (owner, model, name),
    UNIQUE (owner, model, name, kind),
    FOREIGN KEY (owner, model) REFERENCES models (owner, model) ON DELETE CASCADE
) STRICT;

CREATE TABLE versions (
    owner      TEXT    NOT NULL,
    model      TEXT    NOT NULL,
    version    TEXT    NOT NULL,
    kind       TEXT    NOT NULL DEFAULT 'version' CHECK (kind = 'version'),
    sequence   INTEGER NOT NULL,               -- the order of publishing within the model
    digest     BLOB    NOT NULL,
    manifest   TEXT    NOT NULL,
    facts      TEXT    NOT NULL,               -- JSON that the catalog does not read
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (owner, model, version),
    UNIQUE (owner, model, sequence),
    FOREIGN KEY (owner, model, version, kind)
        REFERENCES model_names (owner, model, name, kind) ON DELETE CASCADE
) STRICT;

-- The last constraint is what makes an owner's right to a blob, and its survival, a matter of the
-- schema.
CREATE TABLE version_blobs (
    owner    TEXT    NOT NULL,
    model    TEXT    NOT NULL,
    version  TEXT    NOT NULL,
    position INTEGER NOT NULL,
    digest   BLOB    NOT NULL,
    PRIMARY KEY (owner, model, version, digest),
    FOREIGN KEY (owner, model, version)
        REFERENCES versions (owner, model, version) ON DELETE CASCADE,
    FOREIGN KEY (owner, digest) REFERENCES blob_owners (tenant, digest)
) STRICT;

CREATE INDEX version_blobs_by_owner ON version_blobs (owner, digest);

CREATE TABLE aliases (
    owner   TEXT NOT NULL,
    model   TEXT NOT NULL,
    alias   TEXT NOT NULL,
    kind    TEXT NOT NULL DEFAULT 'alias' CHECK (kind = 'alias'),
    version TEXT NOT NULL,
    PRIMARY KEY (owner, model, alias),
    FOREIGN KEY (owner, model, alias, kind)
        REFERENCES model_names (owner, model, name, kind) ON DELETE CASCADE,
    FOREIGN KEY (owner, model, version) REFERENCES versions (owner, model, version)
) STRICT;

CREATE INDEX aliases_by_version ON aliases (owner, model, version);
