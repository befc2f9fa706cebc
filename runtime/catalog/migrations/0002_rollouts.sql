-- Versions that are tried behind an alias, and what aliases stood for.

-- At most one for each alias. `canary` and `shadow` are parts of ten thousand requests.
CREATE TABLE rollouts (
    owner      TEXT    NOT NULL,
    model      TEXT    NOT NULL,
    alias      TEXT    NOT NULL,
    version    TEXT    NOT NULL,               -- the candidate
    canary     INTEGER NOT NULL CHECK (canary BETWEEN 0 AND 10000),
    shadow     INTEGER NOT NULL CHECK (shadow BETWEEN 0 AND 10000),
    sticky     TEXT    NOT NULL,               -- the header whose value decides who answers
    bounds     TEXT    NOT NULL,               -- JSON that the catalog does not read
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (owner, model, alias),
    FOREIGN KEY (owner, model, alias) REFERENCES aliases (owner, model, alias) ON DELETE CASCADE,
    FOREIGN KEY (owner, model, version) REFERENCES versions (owner, model, version)
) STRICT;

CREATE INDEX rollouts_by_version ON rollouts (owner, model, version);

-- The versions are texts and no references: what was stays told when a version is gone.
CREATE TABLE alias_changes (
    owner      TEXT    NOT NULL,
    model      TEXT    NOT NULL,
    sequence   INTEGER NOT NULL,               -- the order of changes within the model
    alias      TEXT    NOT NULL,
    act        TEXT    NOT NULL CHECK (act IN ('set', 'deleted', 'tried', 'promoted', 'rolled-back')),
    version    TEXT,                           -- what the alias stands for since
    before     TEXT,                           -- what it stood for until then
    candidate  TEXT,
    why        TEXT    NOT NULL,
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (owner, model, sequence),
    FOREIGN KEY (owner, model) REFERENCES models (owner, model) ON DELETE CASCADE
) STRICT;
