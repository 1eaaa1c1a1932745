-- Columns are TEXT, BIGINT and BLOB only, times are seconds since 1970, so that one query text serves every database.

-- Who did what, when and from where. Each row carries the hash of the one before; storage/audit.rs says how.
CREATE TABLE audit (
    serial BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    origin TEXT NOT NULL,
    act TEXT NOT NULL,
    subject TEXT NOT NULL,
    details TEXT NOT NULL,
    previous_hash BLOB NOT NULL,
    hash BLOB NOT NULL
);

-- Counts the rows of the audit log; whoever writes one raises this first, so that writers take turns.
INSERT INTO generations (subject, generation) VALUES ('audit', 0);

-- What is known of the database as a whole, such as that it was restored from a backup.
CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

-- Against slips of the hand; the hashes are there against intent.
CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
