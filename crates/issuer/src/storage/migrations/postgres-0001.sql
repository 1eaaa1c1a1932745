-- Columns are TEXT, BIGINT and BYTEA only, times are seconds since 1970, so that one query text serves every database.

CREATE TABLE signing_keys (
    kid TEXT NOT NULL PRIMARY KEY,
    alg TEXT NOT NULL,
    serial BIGINT NOT NULL,
    public_jwk TEXT NOT NULL,
    sealed_private BYTEA,
    created_at BIGINT NOT NULL,
    publish_at BIGINT NOT NULL,
    sign_from BIGINT NOT NULL,
    max_ttl_s BIGINT NOT NULL,
    clock_skew_s BIGINT NOT NULL,
    revoked_at BIGINT,
    revoked_reason TEXT,
    UNIQUE (alg, serial)
);

CREATE TABLE clients (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT,
    secret_sha256 BYTEA NOT NULL,
    auth_method TEXT,
    access_token_alg TEXT,
    scopes TEXT NOT NULL,
    audiences TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Counts the changes, so that another process sees cheaply that something is new.
CREATE TABLE generations (
    subject TEXT NOT NULL PRIMARY KEY,
    generation BIGINT NOT NULL
);
INSERT INTO generations (subject, generation) VALUES ('keys', 0), ('clients', 0);
