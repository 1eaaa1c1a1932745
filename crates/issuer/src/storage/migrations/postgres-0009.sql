-- Certificates that the servers order themselves: those that are configured alike share one. One server at a time orders,
-- and no sooner than `next_try_at`; each certificate that is stored raises the generation.
CREATE TABLE certificates (
    name TEXT NOT NULL PRIMARY KEY,
    generation BIGINT NOT NULL,
    chain TEXT,
    private_sealed BYTEA,
    holder TEXT NOT NULL,
    leased_until BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    next_try_at BIGINT NOT NULL
);

-- Accounts at certificate authorities.
CREATE TABLE acme_accounts (
    directory_url TEXT NOT NULL PRIMARY KEY,
    contact TEXT NOT NULL,
    credentials_sealed BYTEA NOT NULL
);

-- What an authority is about to ask any of the servers.
CREATE TABLE acme_challenges (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    answer TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
);
