-- Columns are TEXT, BIGINT and BYTEA only, times are seconds since 1970, so that one query text serves every database.

-- Who did what, when and from where. Each row carries the hash of the one before; storage/audit.rs says how.
CREATE TABLE audit (
    serial BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    origin TEXT NOT NULL,
    act TEXT NOT NULL,
    subject TEXT NOT NULL,
    details TEXT NOT NULL,
    previous_hash BYTEA NOT NULL,
    hash BYTEA NOT NULL
);

-- Counts the rows of the audit log; whoever writes one raises this first, so that writers take turns.
INSERT INTO generations (subject, generation) VALUES ('audit', 0);

-- What is known of the database as a whole, such as that it was restored from a backup.
CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- Against slips of the hand; the hashes are there against intent.
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
