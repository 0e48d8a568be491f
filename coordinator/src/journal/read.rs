//! Rows to what a coordinator knows when it starts.
use super::{AdmittedPlan, JournalError, Recorded, RecordedFailure, RecordedPlan, fields};
use model::{ContentId, ExecutorName, Failure, PathFacts, PlanId, StorePath, TaskId};
use nix_formats::modulo::ModuloHash;
use rusqlite::{Connection, Row};
use scheduler::{Binding, Measurement};
use std::collections::HashMap;
use std::sync::Arc;

/// What SQLite or a row says.
enum Trouble {
    Sqlite(rusqlite::Error),
    Row(&'static str),
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Reads everything.
pub(super) fn recorded(database: &Connection) -> Result<Recorded, JournalError> {
    let run = "SELECT value FROM counters WHERE name = 'run'";
    let runs = all(database, "counters", run, |row| number(row, 0))?;
    Ok(Recorded {
        run: runs.first().copied().unwrap_or(1),
        derivations: all(
            database,
            "derivations",
            "SELECT path, text, modulo FROM derivations ORDER BY rowid",
            derivation,
        )?,
        contents: all(database, "contents", "SELECT * FROM contents ORDER BY rowid", content)?,
        holders: all(database, "holders", "SELECT domain, path, holder FROM holders", |row| {
            let holder: String = row.get(2)?;
            Ok((id(row)?, fields::parse_holder(&holder).ok_or(Trouble::Row("a holder"))?))
        })?,
        bindings: all(database, "bindings", "SELECT domain, path, bound FROM bindings", |row| {
            let (promise, to) = (id(row)?, row.get::<_, String>(2)?);
            let to = ContentId { domain: promise.domain.clone(), path: StorePath::from_validated(&to) };
            Ok(Binding { promise, to })
        })?,
        plans: plans(database)?,
        failures: all(database, "failures", "SELECT * FROM failures ORDER BY position", failure)?,
        measurements: all(
            database,
            "measurements",
            "SELECT derivation, name, kind, is_emulated, work_ms, memory_bytes FROM measurements ORDER BY position",
            measurement,
        )?,
        executors: all(database, "executors", "SELECT name FROM executors", |row| {
            Ok(ExecutorName(row.get::<_, String>(0)?.into()))
        })?,
    })
}

/// Plans, with all their tasks: those of large ones came in parts.
fn plans(database: &Connection) -> Result<Vec<RecordedPlan>, JournalError> {
    let mut plans = all(database, "plans", "SELECT * FROM plans ORDER BY position", plan)?;
    let parts = all(database, "plan_tasks", "SELECT plan, tasks FROM plan_tasks ORDER BY position", |row| {
        let tasks: String = row.get(1)?;
        Ok((PlanId(row.get(0)?), fields::parse_ids(&tasks).ok_or(Trouble::Row("tasks"))?))
    })?;
    let mut tasks: HashMap<PlanId, Vec<TaskId>> = HashMap::new();
    parts.into_iter().for_each(|(plan, part)| tasks.entry(plan).or_default().extend(part));
    for RecordedPlan { plan, .. } in &mut plans {
        if let Some(mut first) = tasks.remove(&plan.id) {
            first.append(&mut plan.tasks);
            plan.tasks = first;
        }
    }
    Ok(plans)
}

fn all<T>(
    database: &Connection,
    table: &'static str,
    query: &str,
    read: impl Fn(&Row<'_>) -> Result<T, Trouble>,
) -> Result<Vec<T>, JournalError> {
    let rows = || {
        let mut statement = database.prepare(query)?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(read(row)?);
        }
        Ok(found)
    };
    rows().map_err(|trouble| {
        let problem = match trouble {
            Trouble::Sqlite(error) => error.to_string(),
            Trouble::Row(what) => format!("{what} that this program does not write"),
        };
        JournalError::Damaged { table, problem }
    })
}

fn number(row: &Row<'_>, column: usize) -> Result<u64, Trouble> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| Trouble::Row("a negative number"))
}

fn id(row: &Row<'_>) -> Result<ContentId, Trouble> {
    let (domain, path): (String, String) = (row.get(0)?, row.get(1)?);
    fields::parse_id(&domain, &path).ok_or(Trouble::Row("a trust domain"))
}

fn derivation(row: &Row<'_>) -> Result<(StorePath, Arc<[u8]>, ModuloHash), Trouble> {
    let (path, text): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
    Ok((StorePath::from_validated(&path), text.into(), ModuloHash(row.get(2)?)))
}

fn content(row: &Row<'_>) -> Result<(ContentId, PathFacts, Vec<ContentId>), Trouble> {
    let (references, ids): (String, String) = (row.get(4)?, row.get(5)?);
    let deriver: Option<String> = row.get(6)?;
    let facts = PathFacts {
        nar_sha256: row.get(2)?,
        nar_size: number(row, 3)?,
        references: fields::parse_paths(&references),
        deriver: deriver.as_deref().map(StorePath::from_validated),
        content_address: row.get(7)?,
    };
    Ok((id(row)?, facts, fields::parse_ids(&ids).ok_or(Trouble::Row("references"))?))
}

fn plan(row: &Row<'_>) -> Result<RecordedPlan, Trouble> {
    let board: String = row.get(2)?;
    let (roots, tasks, trace): (String, String, String) = (row.get(3)?, row.get(4)?, row.get(5)?);
    let summary: Option<String> = row.get(8)?;
    let ended = match summary {
        None => None,
        Some(text) => {
            let summary = fields::parse_summary(&text).ok_or(Trouble::Row("a plan's end"))?;
            Some((summary, number(row, 7)?))
        }
    };
    let plan = AdmittedPlan {
        id: PlanId(row.get(0)?),
        board: board.into(),
        roots: fields::parse_roots(&roots).ok_or(Trouble::Row("roots"))?,
        tasks: fields::parse_ids(&tasks).ok_or(Trouble::Row("tasks"))?,
        trace: fields::parse_trace(&trace),
        admitted_unix_ms: number(row, 6)?,
    };
    Ok(RecordedPlan { plan, position: number(row, 1)?, ended })
}

fn measurement(row: &Row<'_>) -> Result<Measurement, Trouble> {
    let (derivation, kind): (String, String) = (row.get(0)?, row.get(2)?);
    Ok(Measurement {
        derivation: StorePath::from_validated(&derivation),
        name: row.get(1)?,
        kind: fields::parse_kind(&kind).ok_or(Trouble::Row("a kind of derivation"))?,
        is_emulated: row.get(3)?,
        work_ms: number(row, 4)?,
        memory_bytes: number(row, 5)?,
    })
}

fn failure(row: &Row<'_>) -> Result<RecordedFailure, Trouble> {
    let (class, missing): (String, String) = (row.get(3)?, row.get(6)?);
    let log_tail: Vec<u8> = row.get(7)?;
    let failure = Failure {
        class: fields::parse_class(&class).ok_or(Trouble::Row("a class of failure"))?,
        message: row.get(4)?,
        exit_status: row.get(5)?,
        missing_inputs: fields::parse_paths(&missing),
    };
    Ok(RecordedFailure { task: id(row)?, failure, log_tail: log_tail.into(), position: number(row, 2)? })
}
