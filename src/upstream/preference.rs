//! Who is asked first: in ascending order, and among those of the same order by lot, in proportion to their weights, as SRV records are (RFC 2782).
//!
//! One departure: there the lot may fall on a weight of 0 before others, with us it does not, so that weights of 1 and 1 share evenly. Pure: the lot
//! is an argument.

/// Something with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranked<T> {
    /// The lower, the earlier.
    pub order: u32,
    /// The share among those of the same order; 0 comes after all others.
    pub weight: u32,
    /// What it is.
    pub what: T,
}

/// All of them, each once, in the order in which to ask. `draw` gives random numbers.
pub fn arrange<T>(mut ranked: Vec<Ranked<T>>, draw: &mut dyn FnMut() -> u64) -> Vec<T> {
    ranked.sort_by_key(|one| one.order);
    let mut arranged = Vec::with_capacity(ranked.len());
    while let Some(first) = ranked.first().map(|one| one.order) {
        let weights: Vec<u32> = ranked.iter().take_while(|one| one.order == first).map(|one| one.weight).collect();
        let place = if weights.len() > 1 { pick(&weights, draw()) } else { 0 };
        arranged.push(ranked.remove(place).what);
    }
    arranged
}

/// The place on which the lot falls: each in proportion to its weight; all alike when none has any.
fn pick(weights: &[u32], lot: u64) -> usize {
    let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    let count = u64::try_from(weights.len()).unwrap_or(u64::MAX);
    if sum == 0 {
        return usize::try_from(lot.checked_rem(count).unwrap_or(0)).unwrap_or(0);
    }
    let point = lot % sum;
    let mut running = 0_u64;
    let found = weights.iter().position(|&weight| {
        running = running.saturating_add(u64::from(weight));
        point < running
    });
    found.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Entropy as _, SeededEntropy};

    fn ranked(all: &[(u32, u32, &'static str)]) -> Vec<Ranked<&'static str>> {
        all.iter().map(|&(order, weight, what)| Ranked { order, weight, what }).collect()
    }

    #[test]
    fn the_lower_order_comes_first_and_the_written_order_decides_nothing() {
        let mut draw = || 0;
        assert_eq!(arrange(ranked(&[(20, 1, "b"), (10, 1, "a"), (30, 9, "c")]), &mut draw), ["a", "b", "c"]);
        assert_eq!(arrange(Vec::<Ranked<u8>>::new(), &mut draw), Vec::<u8>::new());
    }

    #[test]
    fn no_lot_is_drawn_where_there_is_nothing_to_choose() {
        let mut draw = || panic!("drawn");
        assert_eq!(arrange(ranked(&[(1, 1, "a"), (2, 1, "b")]), &mut draw), ["a", "b"]);
    }

    #[test]
    fn of_the_same_order_each_comes_first_in_proportion_to_its_weight() {
        let entropy = SeededEntropy::new(1);
        let mut first = std::collections::BTreeMap::new();
        for _ in 0..10_000 {
            let all =
                arrange(ranked(&[(1, 1, "a"), (1, 3, "b"), (1, 0, "c"), (2, 9, "d")]), &mut || entropy.next_u64());
            assert_eq!((all.len(), all[3]), (4, "d"), "all of them, and the next order behind");
            *first.entry(all[0]).or_insert(0) += 1;
        }
        let (a, b) = (first["a"], first["b"]);
        assert!((2_300..2_700).contains(&a) && a + b == 10_000, "{first:?}");
    }

    #[test]
    fn without_weights_all_are_alike() {
        let mut lots = 0_u64;
        let firsts: Vec<_> = (0..4)
            .map(|_| {
                lots += 1;
                arrange(ranked(&[(1, 0, "a"), (1, 0, "b")]), &mut || lots)[0]
            })
            .collect();
        assert_eq!(firsts, ["b", "a", "b", "a"]);
    }
}
