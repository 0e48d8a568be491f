//! Who held what when the last run ended: counted on until that executor says itself, or time is up. Pure.
use model::{ContentId, ExecutorName};
use scheduler::{Fact, Holder};
use std::collections::{HashMap, HashSet};

/// What the journal says that executors hold, of those that have not said it themselves.
#[derive(Debug, Default)]
pub(super) struct RecordedHolders {
    by_executor: HashMap<ExecutorName, HashSet<ContentId>>,
}

impl RecordedHolders {
    /// What is recorded.
    pub(super) fn new(recorded: impl IntoIterator<Item = (ContentId, Holder)>) -> Self {
        let mut by_executor = HashMap::<_, HashSet<_>>::new();
        for (content, holder) in recorded {
            if let Holder::Executor(name) = holder {
                by_executor.entry(name).or_default().insert(content);
            }
        }
        Self { by_executor }
    }

    /// The executors that should have content.
    pub(super) fn of(&self, content: &ContentId) -> impl Iterator<Item = Holder> {
        let holds = |(_, contents): &(&ExecutorName, &HashSet<ContentId>)| contents.contains(content);
        self.by_executor.iter().filter(holds).map(|(name, _)| Holder::Executor(name.clone()))
    }

    /// A part of an executor's inventory; after the last one gives what it should have and has not.
    pub(super) fn inventory<'a>(
        &mut self,
        executor: &ExecutorName,
        contents: impl Iterator<Item = &'a ContentId>,
        is_last: bool,
    ) -> Vec<Fact> {
        let Some(unnamed) = self.by_executor.get_mut(executor) else { return Vec::new() };
        for content in contents {
            unnamed.remove(content);
        }
        if !is_last {
            return Vec::new();
        }
        let gone = self.by_executor.remove(executor).unwrap_or_default();
        gone.into_iter().map(|content| Fact::NotHeld(content, Holder::Executor(executor.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{StorePath, TrustDomain};

    fn content(name: &str) -> ContentId {
        let path = StorePath::from_validated(&format!("/nix/store/{name}"));
        ContentId { domain: TrustDomain::Shared, path }
    }

    #[test]
    fn an_executor_is_counted_on_until_its_inventory_is_complete() {
        let executor = ExecutorName("x".into());
        let holder = Holder::Executor(executor.clone());
        let mut recorded = RecordedHolders::new([
            (content("a"), holder.clone()),
            (content("b"), holder.clone()),
            (content("b"), Holder::ContentStore),
        ]);
        assert_eq!(recorded.of(&content("b")).collect::<Vec<_>>(), std::slice::from_ref(&holder));
        let named = [content("b"), content("c")];
        assert_eq!(recorded.inventory(&executor, named.iter(), false), []);
        assert_eq!(recorded.of(&content("a")).collect::<Vec<_>>(), std::slice::from_ref(&holder));
        let gone = recorded.inventory(&executor, std::iter::empty(), true);
        assert_eq!(gone, [Fact::NotHeld(content("a"), holder)]);
        assert_eq!(recorded.of(&content("a")).count(), 0);
    }
}
