-- Who fetches the JWKS, and the newest key of each ring that it was given (JSON: {"ES256": 3}). All replicas write the
-- same rows: counts add up, times widen.
CREATE TABLE fetchers (
    name TEXT NOT NULL PRIMARY KEY,
    first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    fetches BIGINT NOT NULL,
    newest TEXT NOT NULL
);

-- Keys whose start was put off because a fetcher lacks them: when they were planned to sign, and until when they wait.
CREATE TABLE held_keys (
    kid TEXT NOT NULL PRIMARY KEY,
    planned BIGINT NOT NULL,
    held_until BIGINT NOT NULL
);
