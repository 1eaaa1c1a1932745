-- Columns are TEXT, BIGINT and BYTEA only, times are seconds since 1970, so that one query text serves every database.
-- What a browser or an app holds (cookies, codes, refresh tokens) is here only as its SHA-256.

-- Lists and objects (claims, roles, groups) are JSON.
CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    username TEXT NOT NULL,
    username_key TEXT NOT NULL,
    email TEXT,
    email_verified BIGINT NOT NULL,
    claims TEXT NOT NULL,
    roles TEXT NOT NULL,
    groups TEXT NOT NULL,
    password_hash TEXT,
    disabled BIGINT NOT NULL,
    declared BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    password_changed_at BIGINT
);
CREATE INDEX users_by_name ON users (username_key);

-- What a user may sign in with, folded for comparison: the user name and the e-mail address. They share one set of
-- names, so that nobody can take somebody's address as a user name.
CREATE TABLE login_names (
    name TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX login_names_by_user ON login_names (user_id);

-- A browser's sign-in.
CREATE TABLE sessions (
    cookie_sha256 BYTEA NOT NULL PRIMARY KEY,
    sid TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    auth_time BIGINT NOT NULL,
    amr TEXT NOT NULL,
    acr TEXT,
    persistent BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    idle_expires_at BIGINT NOT NULL,
    user_agent TEXT NOT NULL,
    address TEXT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_end ON sessions (expires_at);
CREATE INDEX sessions_by_idle_end ON sessions (idle_expires_at);

-- The clients that were signed into from a session.
CREATE TABLE session_clients (
    sid TEXT NOT NULL REFERENCES sessions (sid) ON DELETE CASCADE,
    client_id TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    PRIMARY KEY (sid, client_id)
);

-- What a user allowed a client in one authorization. No token of it lives longer than alive_until.
CREATE TABLE grants (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id TEXT NOT NULL,
    sid TEXT,
    offline BIGINT NOT NULL,
    scope TEXT NOT NULL,
    audiences TEXT NOT NULL,
    claims_request TEXT,
    nonce TEXT,
    auth_time BIGINT NOT NULL,
    amr TEXT NOT NULL,
    acr TEXT,
    created_at BIGINT NOT NULL,
    alive_until BIGINT NOT NULL,
    revoked_at BIGINT
);
CREATE INDEX grants_by_user ON grants (user_id, client_id);
CREATE INDEX grants_by_client ON grants (client_id);
CREATE INDEX grants_by_session ON grants (sid);
CREATE INDEX grants_by_end ON grants (alive_until);

-- An authorization code and the grant that it becomes. It goes with that, so that a second use is noticed.
CREATE TABLE codes (
    code_sha256 BYTEA NOT NULL PRIMARY KEY,
    redirect_uri TEXT,
    code_challenge TEXT,
    issued_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    redeemed_at BIGINT,
    made_grant TEXT REFERENCES grants (id) ON DELETE CASCADE,
    grant_id TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id TEXT NOT NULL,
    sid TEXT,
    offline BIGINT NOT NULL,
    scope TEXT NOT NULL,
    audiences TEXT NOT NULL,
    claims_request TEXT,
    nonce TEXT,
    auth_time BIGINT NOT NULL,
    amr TEXT NOT NULL,
    acr TEXT
);
CREATE INDEX codes_by_user ON codes (user_id);
CREATE INDEX codes_by_end ON codes (made_grant, expires_at);

-- A used one stays until it would have expired, so that a second use is noticed. Its successor can only be opened with
-- the token itself.
CREATE TABLE refresh_tokens (
    token_sha256 BYTEA NOT NULL PRIMARY KEY,
    grant_id TEXT NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    issued_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT,
    successor_sealed BYTEA
);
CREATE INDEX refresh_tokens_by_grant ON refresh_tokens (grant_id);
CREATE INDEX refresh_tokens_by_end ON refresh_tokens (expires_at);
CREATE INDEX refresh_tokens_by_use ON refresh_tokens (used_at);

-- Access tokens that were revoked one by one.
CREATE TABLE revoked_tokens (
    jti TEXT NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
CREATE INDEX revoked_tokens_by_end ON revoked_tokens (expires_at);

-- What a user allowed a client once and for all.
CREATE TABLE consents (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_id TEXT NOT NULL,
    scopes TEXT NOT NULL,
    given_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, client_id)
);
CREATE INDEX consents_by_client ON consents (client_id);

-- Attempts to sign in, by the SHA-256 of what was tried: it may be no name of anybody.
CREATE TABLE throttle (
    key_sha256 BYTEA NOT NULL PRIMARY KEY,
    failures BIGINT NOT NULL,
    blocked_until BIGINT NOT NULL,
    forgotten_at BIGINT NOT NULL
);
CREATE INDEX throttle_by_end ON throttle (forgotten_at);

-- The jti of client assertions that were seen (RFC 7523).
CREATE TABLE assertion_jtis (
    client_id TEXT NOT NULL,
    jti_sha256 BYTEA NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (client_id, jti_sha256)
);
CREATE INDEX assertion_jtis_by_end ON assertion_jtis (expires_at);

-- Back-channel logouts to be told. They outlive the session and the user.
CREATE TABLE logout_deliveries (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id TEXT NOT NULL,
    uri TEXT NOT NULL,
    user_id TEXT NOT NULL,
    sid TEXT,
    created_at BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    next_at BIGINT NOT NULL
);
CREATE INDEX logout_deliveries_by_date ON logout_deliveries (next_at);

-- What people and clients do. storage/events.rs says why this is not in the audit log.
CREATE TABLE events (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    user_id TEXT,
    client_id TEXT,
    sid TEXT,
    address TEXT,
    details TEXT NOT NULL
);
CREATE INDEX events_by_date ON events (at);
CREATE INDEX events_by_user ON events (user_id);
