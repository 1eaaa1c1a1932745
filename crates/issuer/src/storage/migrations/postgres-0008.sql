-- What is known of a user besides what is in `users`: in a table of its own, because a server of the version before, which
-- may be running, reads `users` by statements that were prepared for the columns of its time. No row: nothing.
--
-- scopes is a JSON list, client_roles a JSON object of lists by client. declared_sha256 is the SHA-256 of the password
-- hash that the configuration gave last: what has been made of it since is not replaced by it again.
CREATE TABLE user_details (
    user_id TEXT NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    scopes TEXT NOT NULL,
    client_roles TEXT NOT NULL,
    declared_sha256 BYTEA
);
