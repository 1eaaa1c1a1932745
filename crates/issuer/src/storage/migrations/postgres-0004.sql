-- The highest ages under which key sets are handed out, and until when such a set may still be cached: one row.
CREATE TABLE ages_in_use (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    ages_s BIGINT NOT NULL,
    held_until BIGINT NOT NULL
);
