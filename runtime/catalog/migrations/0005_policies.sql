-- Which versions of a model are served and kept; a model without a row serves and keeps all.
CREATE TABLE policies (
    owner  TEXT NOT NULL,
    model  TEXT NOT NULL,
    serve  TEXT NOT NULL CHECK (serve IN ('all', 'latest', 'listed')),
    latest INTEGER CHECK (latest > 0),         -- how many, for 'latest'
    listed TEXT,                               -- which, for 'listed', separated by commas
    keep   INTEGER CHECK (keep > 0),           -- how many of the newest are kept; all without it
    PRIMARY KEY (owner, model),
    FOREIGN KEY (owner, model) REFERENCES models (owner, model) ON DELETE CASCADE
) STRICT;
