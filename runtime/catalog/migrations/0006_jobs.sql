-- Data to learn from, and jobs.

-- A dataset is immutable. Its blob is the host's own layout of the file that was sent.
CREATE TABLE datasets (
    tenant     TEXT    NOT NULL REFERENCES tenants (name),
    dataset    TEXT    NOT NULL,
    source     BLOB    NOT NULL,               -- the digest of the file that was sent
    options    TEXT    NOT NULL,               -- JSON: how it was read
    digest     BLOB    NOT NULL,               -- the blob
    schema     TEXT    NOT NULL,               -- JSON that the catalog does not read
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, dataset),
    FOREIGN KEY (tenant, digest) REFERENCES blob_owners (tenant, digest)
) STRICT;

CREATE INDEX datasets_by_blob ON datasets (tenant, digest);

CREATE TABLE jobs (
    id         TEXT    NOT NULL PRIMARY KEY,
    tenant     TEXT    NOT NULL REFERENCES tenants (name),
    sequence   INTEGER NOT NULL UNIQUE,        -- the order in which they came
    state      TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled')),
    model      TEXT    NOT NULL,               -- what it makes
    version    TEXT    NOT NULL,
    request    TEXT    NOT NULL,               -- JSON that the catalog does not read, like those below
    progress   TEXT    NOT NULL,
    result     TEXT,
    error      TEXT,
    created_ms INTEGER NOT NULL,
    started_ms INTEGER,
    ended_ms   INTEGER
) STRICT;

CREATE INDEX jobs_by_tenant ON jobs (tenant, sequence);

-- No two jobs that may still end well make one version.
CREATE UNIQUE INDEX jobs_by_version ON jobs (tenant, model, version)
    WHERE state IN ('queued', 'running', 'paused');

CREATE TABLE job_events (
    job      TEXT    NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    at_ms    INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    data     TEXT    NOT NULL,
    PRIMARY KEY (job, sequence)
) STRICT;
