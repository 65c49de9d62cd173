-- The electronic logbook of the Senn Ferry Company. It replaced the paper deck log on 1 June 2022.
-- One SQLite file a year: logbook-2025.sqlite3. Times are local and in ISO 8601.

PRAGMA foreign_keys = ON;

CREATE TABLE vessel (
    name            TEXT PRIMARY KEY,
    built           INTEGER NOT NULL,
    max_passengers  INTEGER NOT NULL CHECK (max_passengers > 0)
);

INSERT INTO vessel (name, built, max_passengers) VALUES
    ('Wagtail', 1987, 180),
    ('Dipper',  2004,  60),
    ('Bittern', 1962,  24);

CREATE TABLE crossing (
    id            INTEGER PRIMARY KEY,
    vessel        TEXT NOT NULL REFERENCES vessel (name),
    skipper       TEXT NOT NULL,
    left_at       TEXT NOT NULL,
    from_landing  TEXT NOT NULL CHECK (from_landing IN ('Marrowick', 'Kestle Quay', 'Heron Eyot')),
    passengers    INTEGER NOT NULL CHECK (passengers >= 0),
    vehicles      INTEGER NOT NULL DEFAULT 0 CHECK (vehicles BETWEEN 0 AND 14)
);

CREATE INDEX crossing_by_day ON crossing (date(left_at), vessel);

CREATE TABLE incident (
    id            INTEGER PRIMARY KEY,
    crossing_id   INTEGER REFERENCES crossing (id),
    happened_at   TEXT NOT NULL,
    severity      TEXT NOT NULL CHECK (severity IN ('note', 'minor', 'serious')),
    what          TEXT NOT NULL
);

-- No boat may carry more people than its certificate allows.
CREATE TRIGGER crossing_is_within_certificate
BEFORE INSERT ON crossing
WHEN new.passengers > (SELECT max_passengers FROM vessel WHERE name = new.vessel)
BEGIN
    SELECT raise(ABORT, 'more passengers than the certificate allows');
END;

-- An entry may be corrected for 48 hours. After that the page counts as signed.
CREATE TRIGGER crossing_is_signed_after_two_days
BEFORE UPDATE ON crossing
WHEN julianday('now', 'localtime') - julianday(old.left_at) > 2
BEGIN
    SELECT raise(ABORT, 'this entry is older than 48 hours and can no longer be changed');
END;

-- What the harbour authority asks for on the fifth day of each month.
CREATE VIEW monthly_report AS
SELECT strftime('%Y-%m', left_at) AS month,
       vessel,
       count(*)        AS crossings,
       sum(passengers) AS passengers,
       sum(vehicles)   AS vehicles
FROM crossing
GROUP BY month, vessel
ORDER BY month, vessel;
