-- The journal. Current state stands on the row, history in `event`, written in one transaction.
-- `record` columns hold the frozen records of models.py as JSON; what SQL filters on, and what
-- several processes write, has a column of its own and wins over the record.

CREATE TABLE IF NOT EXISTS meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS batch (
    id               TEXT PRIMARY KEY,
    notebook         TEXT NOT NULL,
    name             TEXT NOT NULL,
    version          INTEGER NOT NULL,
    created_at       REAL NOT NULL,
    finished_at      REAL,                        -- every row has its outcome
    cancel_requested INTEGER NOT NULL DEFAULT 0,  -- a wish, not a state
    draft            INTEGER NOT NULL DEFAULT 0,  -- collected with --add, not submitted
    round            INTEGER NOT NULL DEFAULT 0,
    used_at          REAL NOT NULL DEFAULT 0,     -- submitted or attached to; the latest owns the name
    record           BLOB NOT NULL,
    -- one process drives a batch at a time
    lease_owner      TEXT,
    lease_token      INTEGER NOT NULL DEFAULT 0,  -- rises with every owner: the fence
    lease_beat       REAL NOT NULL DEFAULT 0,
    UNIQUE (notebook, name, version)
) STRICT;

CREATE INDEX IF NOT EXISTS batch_unfinished ON batch (notebook) WHERE finished_at IS NULL;

CREATE TABLE IF NOT EXISTS job (
    id       TEXT PRIMARY KEY,
    batch_id TEXT NOT NULL REFERENCES batch (id) ON DELETE CASCADE,
    number   INTEGER NOT NULL,
    state    TEXT NOT NULL,
    rows     BLOB NOT NULL,                       -- pairs of uint32: [start, stop)
    record   BLOB NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS job_of_batch ON job (batch_id, number);

-- Per-row data of a batch, packed: hashes (16 bytes a row), outcomes (1), owners (4: the number
-- of the job that gave the outcome), sources (8: batch and row of an inherited answer).
CREATE TABLE IF NOT EXISTS pack (
    batch_id TEXT NOT NULL REFERENCES batch (id) ON DELETE CASCADE,
    kind     TEXT NOT NULL,
    data     BLOB NOT NULL,
    PRIMARY KEY (batch_id, kind)
) STRICT, WITHOUT ROWID;

-- What `--add` collected.
CREATE TABLE IF NOT EXISTS part (
    batch_id TEXT NOT NULL REFERENCES batch (id) ON DELETE CASCADE,
    key      TEXT NOT NULL,                       -- the cell; running it again replaces its part
    position INTEGER NOT NULL,
    record   BLOB NOT NULL,
    PRIMARY KEY (batch_id, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS event (
    seq      INTEGER PRIMARY KEY,
    batch_id TEXT NOT NULL,
    job_id   TEXT,
    at       REAL NOT NULL,
    event    TEXT NOT NULL,
    state    TEXT,                                -- the job's state after the event
    detail   TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX IF NOT EXISTS event_of_batch ON event (batch_id, seq);

-- Money, apart from the batches so that it outlives them: what each job paid for each model.
CREATE TABLE IF NOT EXISTS spend (
    id       TEXT PRIMARY KEY,
    batch_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    model    TEXT NOT NULL,
    at       REAL NOT NULL,
    usd      REAL,                                -- NULL: the price is not known
    record   BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS spend_at ON spend (at);
CREATE INDEX IF NOT EXISTS spend_model ON spend (provider, model, at);

-- Money that is promised: the most that each batch under way can cost. Gone when the batch ends.
CREATE TABLE IF NOT EXISTS reservation (
    batch_id TEXT PRIMARY KEY,
    usd      REAL NOT NULL,
    at       REAL NOT NULL
) STRICT, WITHOUT ROWID;
