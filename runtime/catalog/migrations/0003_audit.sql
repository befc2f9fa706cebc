-- Who changed what, and how it ended. `tenant` is whose the thing is, `actor` who did it.
CREATE TABLE audit (
    sequence   INTEGER NOT NULL PRIMARY KEY,
    tenant     TEXT    NOT NULL,
    actor      TEXT    NOT NULL,
    key_id     TEXT,                           -- none for the host itself and in development
    act        TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    outcome    TEXT    NOT NULL,               -- 'begun' until it is known
    request_id TEXT    NOT NULL,
    began_ms   INTEGER NOT NULL,
    ended_ms   INTEGER
) STRICT;

CREATE INDEX audit_by_tenant ON audit (tenant, sequence);
