-- What a user may do: user, operator or admin.
ALTER TABLE user ADD COLUMN role TEXT NOT NULL DEFAULT 'user';
-- Argon2's own text (PHC); none: only the token proves who it is.
ALTER TABLE user ADD COLUMN password TEXT;
-- The user's secrets are worth nothing since then; their jobs and archives stay theirs.
ALTER TABLE user ADD COLUMN revoked INTEGER;

-- The node's credential is worth nothing since then.
ALTER TABLE node ADD COLUMN revoked INTEGER;

-- Who changed what about users, nodes and other users' jobs.
CREATE TABLE audit (
    number  INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    time    INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL
) STRICT;
CREATE INDEX node_revoked ON node (number) WHERE revoked IS NOT NULL;
