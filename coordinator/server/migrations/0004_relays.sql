-- What a join token makes: a node or a relay.
ALTER TABLE join_token ADD COLUMN makes TEXT NOT NULL DEFAULT 'node';

-- Relays that run alone, by their public keys.
CREATE TABLE relay (
    key          BLOB NOT NULL PRIMARY KEY,
    -- The token that it came with.
    token_sha256 BLOB NOT NULL,
    enrolled     INTEGER NOT NULL,
    revoked      INTEGER
) STRICT;
