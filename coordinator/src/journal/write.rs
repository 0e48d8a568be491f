//! Entries to rows, in one transaction.
use super::{AdmittedPlan, Entry, fields};
use model::{ContentId, Failure, PathFacts, PlanId, TaskId};
use rusqlite::{Connection, Result, Transaction, params};
use scheduler::{Binding, Fact, Measurement, PlanSummary, Settled};
use std::time::{SystemTime, UNIX_EPOCH};

/// Measurements that are kept; older ones are forgotten.
const MEASUREMENTS_MAX: i64 = 100_000;

/// Makes all entries durable, or none.
pub(super) fn commit<'a>(database: &mut Connection, entries: impl Iterator<Item = &'a Entry>) -> Result<()> {
    let transaction = database.transaction()?;
    for entry in entries {
        write(&transaction, entry)?;
    }
    transaction.commit()
}

fn write(to: &Transaction<'_>, entry: &Entry) -> Result<()> {
    match entry {
        Entry::Derivation { path, text, modulo } => to
            .prepare_cached("INSERT OR REPLACE INTO derivations VALUES (?1, ?2, ?3)")?
            .execute(params![path.as_str(), &**text, modulo.0])
            .map(drop),
        Entry::Content { id, facts, references } => content(to, id, facts, references),
        Entry::PlanTasks(plan, tasks) => to
            .prepare_cached("INSERT INTO plan_tasks (plan, tasks) VALUES (?1, ?2)")?
            .execute(params![plan.0, fields::ids(tasks)])
            .map(drop),
        Entry::PlanAdmitted(plan) => admitted(to, plan),
        Entry::Fact(fact) => write_fact(to, fact),
        Entry::LogTail { task, tail } => to
            .prepare_cached("UPDATE failures SET log_tail = ?3 WHERE domain = ?1 AND path = ?2")?
            .execute(params![task.domain.to_string(), task.path.as_str(), &**tail])
            .map(drop),
        Entry::ExecutorMet(executor) => to
            .prepare_cached("INSERT OR IGNORE INTO executors VALUES (?1)")?
            .execute(params![&*executor.0])
            .map(drop),
        Entry::ExecutorGone(executor) => to
            .prepare_cached("DELETE FROM executors WHERE name = ?1")?
            .execute(params![&*executor.0])
            .map(drop),
        Entry::PlanForgotten(plan) => {
            to.prepare_cached("DELETE FROM plan_tasks WHERE plan = ?1")?.execute(params![plan.0])?;
            to.prepare_cached("DELETE FROM plans WHERE id = ?1")?.execute(params![plan.0]).map(drop)
        }
    }
}

fn write_fact(to: &Transaction<'_>, fact: &Fact) -> Result<()> {
    match fact {
        Fact::TaskSettled { task, settled: Settled::Failed(why) } => failure(to, task, why),
        Fact::TaskSettled { task, settled: Settled::Built { outputs, .. } } => {
            to.prepare_cached("DELETE FROM failures WHERE domain = ?1 AND path = ?2")?
                .execute(params![task.domain.to_string(), task.path.as_str()])?;
            outputs.iter().try_for_each(|output| content(to, &output.id, &output.facts, &output.references))
        }
        Fact::Bound(Binding { promise, to: bound }) => to
            .prepare_cached("INSERT OR REPLACE INTO bindings VALUES (?1, ?2, ?3)")?
            .execute(params![promise.domain.to_string(), promise.path.as_str(), bound.path.as_str()])
            .map(drop),
        Fact::Held(id, holder) => to
            .prepare_cached("INSERT OR IGNORE INTO holders VALUES (?1, ?2, ?3)")?
            .execute(params![id.domain.to_string(), id.path.as_str(), fields::holder(holder)])
            .map(drop),
        Fact::NotHeld(id, holder) => to
            .prepare_cached("DELETE FROM holders WHERE domain = ?1 AND path = ?2 AND holder = ?3")?
            .execute(params![id.domain.to_string(), id.path.as_str(), fields::holder(holder)])
            .map(drop),
        Fact::PlanEnded(plan, summary) => ended(to, *plan, summary),
        Fact::Measured(measured) => measurement(to, measured),
    }
}

fn measurement(to: &Transaction<'_>, measured: &Measurement) -> Result<()> {
    let Measurement { derivation, name, kind, is_emulated, work_ms, memory_bytes } = measured;
    to.prepare_cached(
        "INSERT INTO measurements (derivation, name, kind, is_emulated, work_ms, memory_bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        derivation.as_str(),
        name,
        fields::kind_name(*kind),
        is_emulated,
        signed(*work_ms),
        signed(*memory_bytes)
    ])?;
    let forgotten = to.last_insert_rowid() - MEASUREMENTS_MAX;
    to.prepare_cached("DELETE FROM measurements WHERE position <= ?1")?.execute(params![forgotten]).map(drop)
}

fn content(to: &Transaction<'_>, id: &ContentId, facts: &PathFacts, references: &[ContentId]) -> Result<()> {
    to.prepare_cached("INSERT OR REPLACE INTO contents VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
        .execute(params![
            id.domain.to_string(),
            id.path.as_str(),
            facts.nar_sha256,
            signed(facts.nar_size),
            fields::paths(&facts.references),
            fields::ids(references),
            facts.deriver.as_ref().map(model::StorePath::as_str),
            facts.content_address,
        ])
        .map(drop)
}

fn admitted(to: &Transaction<'_>, plan: &AdmittedPlan) -> Result<()> {
    let position = next_position(to)?;
    to.prepare_cached("INSERT OR REPLACE INTO plans VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, NULL, NULL)")?
        .execute(params![
            plan.id.0,
            position,
            plan.board,
            fields::roots(&plan.roots),
            fields::ids(&plan.tasks),
            fields::trace(&plan.trace),
            signed(plan.admitted_unix_ms),
        ])
        .map(drop)
}

fn failure(to: &Transaction<'_>, task: &TaskId, why: &Failure) -> Result<()> {
    let position = next_position(to)?;
    to.prepare_cached("INSERT OR REPLACE INTO failures VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, x'')")?
        .execute(params![
            task.domain.to_string(),
            task.path.as_str(),
            position,
            fields::class_name(why.class),
            why.message,
            why.exit_status,
            fields::paths(&why.missing_inputs),
        ])
        .map(drop)
}

fn ended(to: &Transaction<'_>, plan: PlanId, summary: &PlanSummary) -> Result<()> {
    to.prepare_cached("UPDATE plans SET summary = ?2, ended_unix_ms = ?3 WHERE id = ?1")?
        .execute(params![plan.0, fields::summary(summary), signed(unix_ms())])
        .map(drop)
}

/// One order for plans and failures, over all runs.
fn next_position(to: &Transaction<'_>) -> Result<i64> {
    to.prepare_cached(
        "INSERT INTO counters VALUES ('position', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1
         RETURNING value",
    )?
    .query_row([], |row| row.get(0))
}

/// SQLite's integers are signed; nothing that is counted here comes near that limit.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
