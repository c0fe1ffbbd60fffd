-- Times are milliseconds since the Unix epoch. Secrets are stored as their SHA-256.
-- `body` holds the row's object as JSON; the other columns are what is searched by.

CREATE TABLE setting (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE user (
    name         TEXT NOT NULL PRIMARY KEY,
    token_sha256 BLOB NOT NULL UNIQUE,
    created      INTEGER NOT NULL
) STRICT;

CREATE TABLE join_token (
    token_sha256 BLOB NOT NULL PRIMARY KEY,
    created      INTEGER NOT NULL,
    expires      INTEGER NOT NULL,
    revoked      INTEGER,
    -- The public key of the node that used it.
    used_by      BLOB,
    used         INTEGER
) STRICT;

CREATE TABLE node (
    number            INTEGER NOT NULL PRIMARY KEY,
    key               BLOB NOT NULL UNIQUE,
    credential_sha256 BLOB NOT NULL UNIQUE,
    software          TEXT NOT NULL,
    memory_mib        INTEGER NOT NULL,
    enrolled          INTEGER NOT NULL,
    body              TEXT NOT NULL
) STRICT;

CREATE TABLE job (
    id        INTEGER NOT NULL PRIMARY KEY,
    state     TEXT NOT NULL,
    owner     TEXT NOT NULL,
    submitted INTEGER NOT NULL,
    body      TEXT NOT NULL
) STRICT;
CREATE INDEX job_by_state ON job (state, id);
CREATE INDEX job_by_owner ON job (owner, id);

-- The pair table of a job's last network, kept when the network is closed.
CREATE TABLE job_mesh (
    job  INTEGER NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;

-- The next numbers to give out: one row.
CREATE TABLE counters (
    only INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    body TEXT NOT NULL
) STRICT;
