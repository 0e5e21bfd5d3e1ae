-- Times are Unix seconds. Digests are SHA-256 of a secret that is kept nowhere.

CREATE TABLE groups (
    name             TEXT PRIMARY KEY,
    allowed_networks TEXT NOT NULL,          -- JSON list of CIDR; empty: from everywhere
    created          REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- A revoked agent stays as a row, so that it can be told from one that never was; its name is free.
CREATE TABLE agents (
    id                  TEXT PRIMARY KEY,
    group_name          TEXT NOT NULL,
    name                TEXT NOT NULL,
    created             REAL NOT NULL,
    enabled             INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
    revoked             REAL,
    serial              TEXT,                -- of the newest certificate
    certificate_expires REAL,
    connected           INTEGER NOT NULL DEFAULT 0 CHECK (connected IN (0, 1)),
    last_seen           REAL,
    last_address        TEXT,
    catalogue           BLOB                 -- MessagePack, as the agent announced it last
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX agents_by_name ON agents (group_name, name) WHERE revoked IS NULL;

CREATE TABLE activation_codes (
    digest     BLOB PRIMARY KEY,
    group_name TEXT NOT NULL,
    agent_id   TEXT,                         -- the agent it sets up; NULL: a new one
    created    REAL NOT NULL,
    created_by TEXT NOT NULL,
    expires    REAL NOT NULL,
    used_at    REAL
) STRICT, WITHOUT ROWID;

CREATE TABLE certificates (
    serial    TEXT PRIMARY KEY,
    agent_id  TEXT NOT NULL REFERENCES agents (id),
    issued    REAL NOT NULL,
    not_after REAL NOT NULL,
    revoked   REAL
) STRICT, WITHOUT ROWID;

CREATE INDEX certificates_by_agent ON certificates (agent_id, issued);

CREATE TABLE tokens (
    id        TEXT PRIMARY KEY,
    owner     TEXT NOT NULL,
    digest    BLOB NOT NULL UNIQUE,
    scopes    TEXT NOT NULL,                 -- JSON list
    created   REAL NOT NULL,
    expires   REAL,
    revoked   REAL,
    last_used REAL
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    at      REAL NOT NULL,
    actor   TEXT NOT NULL,
    address TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL                    -- JSON object, never a secret
) STRICT;

CREATE INDEX audit_by_time ON audit (at);

-- What a running gateway has to look at again. Rows live for a few minutes.
CREATE TABLE changes (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    at   REAL NOT NULL,
    kind TEXT NOT NULL,
    key  TEXT NOT NULL
) STRICT;
