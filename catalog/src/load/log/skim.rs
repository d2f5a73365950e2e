//! Which segments have to be read, by what their summaries say.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use highwater_repository::{Error, WalHead};
use highwater_wal::SegmentName;

use super::Search;

/// Summaries that are asked for in one go.
pub(super) const HEADS_AT_ONCE: u64 = 256;

impl Search<'_> {
    /// Whether a segment has to be read, by its summary. One whose summary cannot be read has to.
    pub(super) async fn may_hold(&mut self, number: u64, run: &RangeInclusive<u64>) -> Result<bool, Error> {
        self.read_heads(number, run).await?;
        let summary = |number: u64| self.heads.get(&number)?.as_ref()?.summary.as_ref();
        let is_inside = |number: &u64| run.contains(number);
        let before = number.checked_sub(1).filter(is_inside).and_then(summary);
        let next = Some(number + 1).filter(is_inside).and_then(summary);
        Ok(summary(number).is_none_or(|summary| self.filter.may_be_in(before, summary, next)))
    }

    /// Reads the heads of a segment and of those around it, if they are not there.
    pub(super) async fn read_heads(&mut self, number: u64, run: &RangeInclusive<u64>) -> Result<(), Error> {
        let before = number.saturating_sub(1).max(*run.start());
        let behind = (number + 1).min(*run.end());
        if [before, number, behind].iter().all(|number| self.heads.contains_key(number)) {
            return Ok(());
        }
        let (lowest, _) = self.range();
        let first = (number + 1).saturating_sub(HEADS_AT_ONCE).max(*run.start()).max(lowest).min(before);
        self.heads.clear();
        self.heads = self.heads_between(first, behind).await?;
        Ok(())
    }

    /// The heads of segments; `None` for those that are damaged or gone.
    pub(super) async fn heads_between(
        &mut self,
        first: u64,
        last: u64,
    ) -> Result<BTreeMap<u64, Option<Arc<WalHead>>>, Error> {
        let size = self.catalog.inventory().segment_size;
        let whole = (first..=last).filter(|number| !self.stock.parts.contains_key(number));
        let names: Vec<(u64, SegmentName)> =
            whole.map(|number| (number, self.path.segment(number, size))).collect();
        let segments: Vec<SegmentName> = names.iter().map(|(_, name)| *name).collect();
        let mut found = BTreeMap::new();
        for (number, part) in self.stock.parts.range(first..=last) {
            let head = match self.cluster.wal_head(part.file).await {
                Ok(head) => Some(Arc::new(head)),
                Err(Error::Damaged { .. }) => None,
                Err(error) => return Err(error),
            };
            found.insert(*number, head);
        }
        match self.catalog.heads(&segments).await {
            Ok(heads) => {
                found.extend(names.iter().map(|(number, _)| *number).zip(heads.into_iter().map(Some)));
            }
            // One that is damaged or gone must not hide the others.
            Err(error) if error.is_damaged() || error.is_not_found() => {
                for (number, name) in names {
                    let head = match self.catalog.heads(&[name]).await {
                        Ok(mut heads) => heads.pop(),
                        Err(error) if error.is_damaged() || error.is_not_found() => None,
                        Err(error) => return Err(error),
                    };
                    found.insert(number, head);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(found)
    }
}
