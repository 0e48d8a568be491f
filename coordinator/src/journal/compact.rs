//! Compaction: what nobody needs, and was not heard of for long, is forgotten when the coordinator starts.
//!
//! Kept are the newest derivations and contents, so that boards need not send them again; derivations of every plan that is remembered;
//! contents that somebody has; and whatever these refer to. Only a journal that has outgrown its limits is looked through.
use super::Recorded;
use crate::paths;
use model::{ContentId, StorePath};
use nix_formats::derivation;
use nix_formats::store_path::StoreDir;
use rusqlite::{Connection, params};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How much is kept though nobody needs it; twice as much sets compaction off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) derivations: usize,
    pub(super) contents: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { derivations: 100_000, contents: 250_000 }
    }
}

/// Forgets, in the database and in what was read from it. Both tables are in the order of their rows, oldest first.
pub(super) fn compact(database: &mut Connection, recorded: &mut Recorded, limits: Limits) {
    let has_outgrown = recorded.derivations.len() > limits.derivations.saturating_mul(2)
        || recorded.contents.len() > limits.contents.saturating_mul(2);
    if !has_outgrown {
        return;
    }
    let before = (recorded.derivations.len(), recorded.contents.len());
    let derivations = needed_derivations(recorded, limits.derivations);
    let contents = needed_contents(recorded, limits.contents);
    let is_bound = |promise: &ContentId, to: &ContentId| {
        let maker = promise.path.as_promise().map(|(derivation, _)| StorePath::from_validated(derivation));
        maker.is_some_and(|maker| derivations.contains(&maker))
            && (to.path.is_promise() || contents.contains(to))
    };
    recorded.derivations.retain(|(path, ..)| derivations.contains(path));
    recorded.contents.retain(|(id, ..)| contents.contains(id));
    recorded.bindings.retain(|binding| is_bound(&binding.promise, &binding.to));
    let of_plans: HashSet<&ContentId> =
        recorded.plans.iter().flat_map(|recorded| &recorded.plan.tasks).collect();
    recorded.failures.retain(|failure| of_plans.contains(&failure.task));
    if let Err(error) = forget_others(database, recorded) {
        // All is still there, and is looked through at the next start.
        tracing::warn!(%error, "the journal keeps what nobody needs");
    }
    let after = (recorded.derivations.len(), recorded.contents.len());
    tracing::info!(
        derivations_forgotten = before.0 - after.0,
        contents_forgotten = before.1 - after.1,
        derivations = after.0,
        contents = after.1,
        "journal compacted"
    );
}

/// The newest ones and those of plans, with all that they are made from.
fn needed_derivations(recorded: &Recorded, newest: usize) -> HashSet<StorePath> {
    let texts: HashMap<&StorePath, &Arc<[u8]>> =
        recorded.derivations.iter().map(|(path, text, _)| (path, text)).collect();
    let of_plans = recorded.plans.iter().flat_map(|recorded| &recorded.plan.tasks).map(|task| &task.path);
    let newest = recorded.derivations.iter().rev().take(newest).map(|(path, ..)| path);
    let mut needed = HashSet::new();
    let mut work: Vec<StorePath> = of_plans.chain(newest).cloned().collect();
    while let Some(path) = work.pop() {
        let Some(text) = texts.get(&path) else { continue };
        if needed.insert(path)
            && let Ok(derivation) = derivation::parse(text, &StoreDir::default())
        {
            work.extend(derivation.input_derivations.keys().map(paths::full));
        }
    }
    needed
}

/// The newest ones and those that somebody has, with all that they refer to.
fn needed_contents(recorded: &Recorded, newest: usize) -> HashSet<ContentId> {
    let references: HashMap<&ContentId, &Vec<ContentId>> =
        recorded.contents.iter().map(|(id, _, references)| (id, references)).collect();
    let held = recorded.holders.iter().map(|(id, _)| id);
    let newest = recorded.contents.iter().rev().take(newest).map(|(id, ..)| id);
    let mut needed = HashSet::new();
    let mut work: Vec<&ContentId> = held.chain(newest).collect();
    while let Some(id) = work.pop() {
        if let Some(references) = references.get(id)
            && needed.insert(id.clone())
        {
            work.extend(*references);
        }
    }
    needed
}

/// Makes the tables what was kept, in one transaction.
fn forget_others(database: &mut Connection, kept: &Recorded) -> rusqlite::Result<()> {
    let transaction = database.transaction()?;
    transaction.execute_batch(
        "CREATE TEMP TABLE kept (domain TEXT NOT NULL, path TEXT NOT NULL, PRIMARY KEY (domain, path)) WITHOUT ROWID;",
    )?;
    let keep = |table: &str, ids: &mut dyn Iterator<Item = (String, &str)>| {
        transaction.execute("DELETE FROM temp.kept", [])?;
        let mut insert = transaction.prepare("INSERT OR IGNORE INTO temp.kept VALUES (?1, ?2)")?;
        for (domain, path) in ids {
            insert.execute(params![domain, path])?;
        }
        let domain = if table == "derivations" { "''" } else { "domain" };
        transaction.execute(
            &format!(
                "DELETE FROM {table} WHERE NOT EXISTS
                 (SELECT 1 FROM temp.kept WHERE kept.domain = {domain} AND kept.path = {table}.path)"
            ),
            [],
        )
    };
    let id = |id: &ContentId| id.domain.to_string();
    keep("derivations", &mut kept.derivations.iter().map(|(path, ..)| (String::new(), path.as_str())))?;
    keep("contents", &mut kept.contents.iter().map(|(of, ..)| (id(of), of.path.as_str())))?;
    let promises = kept.bindings.iter().map(|binding| &binding.promise);
    keep("bindings", &mut promises.map(|promise| (id(promise), promise.path.as_str())))?;
    let failed = kept.failures.iter().map(|failure| &failure.task);
    keep("failures", &mut failed.map(|task| (id(task), task.path.as_str())))?;
    transaction.execute_batch("DROP TABLE temp.kept")?;
    transaction.commit()
}
