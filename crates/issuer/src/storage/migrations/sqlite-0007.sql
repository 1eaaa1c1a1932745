-- Up to which event those who want to know were told, and until when one server does so alone.
CREATE TABLE event_reader (
    name TEXT NOT NULL PRIMARY KEY,
    told_up_to BIGINT NOT NULL,
    leased_until BIGINT NOT NULL
);
INSERT INTO event_reader (name, told_up_to, leased_until) VALUES ('hook', 0, 0);
