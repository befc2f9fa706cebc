-- What tenants have used. Counters lie in a file beside the database, one slot for each tenant, and only count up;
-- what of them has been moved into periods is remembered here, in the same transaction that moves it.
CREATE TABLE usage_slots (
    slot       INTEGER NOT NULL PRIMARY KEY CHECK (slot > 0),
    tenant     TEXT    NOT NULL UNIQUE REFERENCES tenants (name),
    requests   INTEGER NOT NULL DEFAULT 0,
    failures   INTEGER NOT NULL DEFAULT 0,
    compute_us INTEGER NOT NULL DEFAULT 0,
    device_us  INTEGER NOT NULL DEFAULT 0,
    bytes_in   INTEGER NOT NULL DEFAULT 0,
    bytes_out  INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO usage_slots (slot, tenant) SELECT row_number() OVER (ORDER BY name), name FROM tenants;

CREATE TABLE usage_periods (
    tenant     TEXT    NOT NULL REFERENCES tenants (name),
    from_ms    INTEGER NOT NULL,               -- the beginning of an hour, in UTC
    requests   INTEGER NOT NULL,
    failures   INTEGER NOT NULL,
    compute_us INTEGER NOT NULL,
    device_us  INTEGER NOT NULL,
    bytes_in   INTEGER NOT NULL,
    bytes_out  INTEGER NOT NULL,
    PRIMARY KEY (tenant, from_ms)
) STRICT;
