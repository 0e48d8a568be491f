//! The journal's tables, and how its database is opened.
use super::JournalError;
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Version of the tables, in SQLite's `user_version`.
const VERSION: i64 = 6;

/// How long the database may belong to somebody else.
const BUSY_WAIT: Duration = Duration::from_millis(500);

/// Lists are text, one entry a line; an id with its domain is `DOMAIN PATH`.
const TABLES: &str = "
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE derivations (path TEXT PRIMARY KEY, text BLOB NOT NULL, modulo BLOB NOT NULL) STRICT;
    CREATE TABLE contents (
        domain TEXT NOT NULL, path TEXT NOT NULL, nar_sha256 BLOB NOT NULL, nar_size INTEGER NOT NULL,
        store_references TEXT NOT NULL, content_references TEXT NOT NULL, deriver TEXT, content_address TEXT,
        PRIMARY KEY (domain, path)) STRICT;
    CREATE TABLE holders (
        domain TEXT NOT NULL, path TEXT NOT NULL, holder TEXT NOT NULL,
        PRIMARY KEY (domain, path, holder)) STRICT, WITHOUT ROWID;
    CREATE TABLE plans (
        id BLOB PRIMARY KEY, position INTEGER NOT NULL, board TEXT NOT NULL, roots TEXT NOT NULL,
        tasks TEXT NOT NULL, trace TEXT NOT NULL, admitted_unix_ms INTEGER NOT NULL,
        ended_unix_ms INTEGER, summary TEXT) STRICT;
    CREATE TABLE failures (
        domain TEXT NOT NULL, path TEXT NOT NULL, position INTEGER NOT NULL, class TEXT NOT NULL,
        message TEXT NOT NULL, exit_status INTEGER, missing_inputs TEXT NOT NULL, log_tail BLOB NOT NULL,
        PRIMARY KEY (domain, path)) STRICT;
";

/// Since version 2: what stands for an output whose path is not known before the build (`DERIVATION!OUTPUT`), and what it
/// turned out to be, a path or what stands for another output.
const BINDINGS: &str = "
    CREATE TABLE bindings (
        domain TEXT NOT NULL, path TEXT NOT NULL, bound TEXT NOT NULL,
        PRIMARY KEY (domain, path)) STRICT, WITHOUT ROWID;
";

/// Since version 3: what builds took, oldest first. Only so many are kept.
const MEASUREMENTS: &str = "
    CREATE TABLE measurements (
        position INTEGER PRIMARY KEY AUTOINCREMENT, derivation TEXT NOT NULL, name TEXT NOT NULL,
        kind TEXT NOT NULL, is_emulated INTEGER NOT NULL, work_ms INTEGER NOT NULL) STRICT;
";

/// Since version 4: executors that have a session.
const EXECUTORS: &str = "CREATE TABLE executors (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;";

/// Since version 5: the most memory that a build had at once, in bytes; 0 when that is not known.
const MEMORY: &str = "ALTER TABLE measurements ADD COLUMN memory_bytes INTEGER NOT NULL DEFAULT 0;";

/// Since version 6: tasks of large plans, in the order in which they came; the plan's own row has those that came last.
const PLAN_TASKS: &str = "
    CREATE TABLE plan_tasks (
        position INTEGER PRIMARY KEY AUTOINCREMENT, plan BLOB NOT NULL, tasks TEXT NOT NULL) STRICT;
";

/// What later versions have added, in their order, from version 2 on.
const LATER: [&str; 5] = [BINDINGS, MEASUREMENTS, EXECUTORS, MEMORY, PLAN_TASKS];

/// Opens the database for this process alone, makes its tables if there are none, and counts the run.
pub(super) fn open(path: &Path) -> Result<Connection, JournalError> {
    let attempt = |source| JournalError::Open { path: path.to_path_buf(), source: Arc::new(source) };
    let mut database = Connection::open(path).map_err(attempt)?;
    // Another coordinator does not go away by waiting; one that just ended may still hold the lock for a moment.
    database.busy_timeout(BUSY_WAIT).map_err(attempt)?;
    // FULL: a commit is on the disk when it returns, also when the power fails.
    database
        .execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             PRAGMA cache_size = -16384;",
        )
        .map_err(attempt)?;
    let transaction = database.transaction().map_err(attempt)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(attempt)?;
    match found {
        0 => transaction.execute_batch(&[TABLES, &LATER.concat()].concat()).map_err(attempt)?,
        1..=VERSION => {
            let missing = LATER.iter().zip(2..).filter(|(_, version)| *version > found);
            let missing: String = missing.map(|(addition, _)| *addition).collect();
            transaction.execute_batch(&missing).map_err(attempt)?;
        }
        _ => return Err(JournalError::Version { path: path.to_path_buf(), found, known: VERSION }),
    }
    transaction.pragma_update(None, "user_version", VERSION).map_err(attempt)?;
    // Of plans whose admission was cut short.
    transaction
        .execute("DELETE FROM plan_tasks WHERE plan NOT IN (SELECT id FROM plans)", [])
        .map_err(attempt)?;
    transaction
        .execute(
            "INSERT INTO counters VALUES ('run', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1",
            [],
        )
        .map_err(attempt)?;
    transaction.commit().map_err(attempt)?;
    Ok(database)
}
