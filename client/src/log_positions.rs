//! How far the log of each build was seen: pieces that come again are cut, and what is missing is noticed. Pure.
use crate::event::LogPiece;
use model::StorePath;
use std::collections::HashMap;

/// Of all builds of a plan.
#[derive(Debug, Default)]
pub struct LogPositions {
    seen: HashMap<StorePath, Seen>,
}

#[derive(Debug)]
struct Seen {
    log: u64,
    end: u64,
}

impl LogPositions {
    /// Cuts what was seen before, maybe all of it. Says whether something before it was not seen.
    pub fn take(&mut self, derivation: &StorePath, piece: &mut LogPiece) -> bool {
        if piece.end == 0 {
            // Nobody counts.
            return false;
        }
        let begin = piece.end.saturating_sub(u64::try_from(piece.text.len()).unwrap_or(u64::MAX));
        let seen = match self.seen.get_mut(derivation) {
            Some(seen) => seen,
            None => self.seen.entry(derivation.clone()).or_insert(Seen { log: piece.log, end: 0 }),
        };
        if seen.log != piece.log {
            *seen = Seen { log: piece.log, end: 0 };
        }
        let again = usize::try_from(seen.end.saturating_sub(begin)).unwrap_or(usize::MAX);
        let has_gap = begin > seen.end;
        seen.end = seen.end.max(piece.end);
        piece.text = piece.text.slice(again.min(piece.text.len())..);
        has_gap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_taken_once_and_gaps_are_noticed() {
        let mut positions = LogPositions::default();
        let [one, other] = ["/nix/store/one.drv", "/nix/store/other.drv"].map(StorePath::from_validated);
        let mut take = |derivation: &StorePath, log, end, text: &'static [u8]| {
            let mut piece = LogPiece { log, end, text: text.into() };
            let has_gap = positions.take(derivation, &mut piece);
            (String::from_utf8(piece.text.to_vec()).unwrap(), has_gap)
        };
        type Case<'a> = (&'a StorePath, u64, u64, &'static [u8], &'a str, bool);
        // Which derivation, number of the log, its length so far, bytes; what is new, whether some are missing.
        let cases: [Case<'_>; 11] = [
            (&one, 5, 3, b"one", "one", false),
            (&one, 5, 3, b"one", "", false),
            (&one, 5, 6, b"onetwo", "two", false),
            (&other, 6, 2, b"ab", "ab", false),
            (&one, 5, 20, b"end", "end", true),
            (&one, 5, 6, b"two", "", false),
            (&one, 0, 0, b"any", "any", false),
            (&one, 9, 4, b"anew", "anew", false),
            (&one, 9, 4, b"", "", false),
            (&one, 10, 9, b"late", "late", true),
            (&one, 10, u64::MAX, b"!", "!", true),
        ];
        for (derivation, log, end, text, new, has_gap) in cases {
            assert_eq!(take(derivation, log, end, text), (new.to_owned(), has_gap), "{log} {end} {text:?}");
        }
    }
}
