-- Resource-seconds that users asked for and used, by day (days since the Unix epoch).
CREATE TABLE accounting (
    day     INTEGER NOT NULL,
    user    TEXT NOT NULL,
    project TEXT NOT NULL,
    asked   INTEGER NOT NULL,
    used    INTEGER NOT NULL,
    PRIMARY KEY (day, user, project)
) STRICT;
