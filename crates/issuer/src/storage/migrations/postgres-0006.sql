-- What apps that people sign in to have registered, as a JSON document with the names of RFC 7591. A client of an earlier
-- version has none: all it has is in the other columns. Those stay filled for servers of that version.
ALTER TABLE clients ADD COLUMN metadata TEXT;
