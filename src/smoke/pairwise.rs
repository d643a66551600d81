// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Which combinations to run: a set of rows in which every two values of
//! different axes that can stand together do so at least once.

use crate::layout::Random;

/// Rows that are built for each that is taken: the best one is.
const CANDIDATES: usize = 6;

/// One value of each axis, by index.
pub type Row = Vec<usize>;

/// The axes' sizes, and which two values exclude each other.
pub struct Space<'a> {
    pub sizes: Vec<usize>,
    /// Whether value `v` of axis `a` can stand beside value `w` of axis `b`.
    pub allowed: &'a dyn Fn((usize, usize), (usize, usize)) -> bool,
}

/// Every pair, by number, and whether some row still has to hold it.
struct Pairs {
    starts: Vec<usize>,
    total: usize,
    wanted: Vec<bool>,
}

impl Pairs {
    fn new(sizes: &[usize]) -> Self {
        let mut total = 0;
        let starts = sizes
            .iter()
            .map(|size| {
                let start = total;
                total += size;
                start
            })
            .collect();
        Pairs {
            starts,
            total,
            wanted: vec![true; total * total],
        }
    }

    fn index(&self, a: (usize, usize), b: (usize, usize)) -> usize {
        let (low, high) = if a.0 < b.0 { (a, b) } else { (b, a) };
        (self.starts[low.0] + low.1) * self.total + self.starts[high.0] + high.1
    }

    fn take(&mut self, row: &Row) {
        for b in 0..row.len() {
            for a in 0..b {
                let index = self.index((a, row[a]), (b, row[b]));
                self.wanted[index] = false;
            }
        }
    }
}

/// For each axis the values that can still be, as bits.
type Domains = Vec<u64>;

/// A space with all exclusions looked up once.
struct Table {
    sizes: Vec<usize>,
    starts: Vec<usize>,
    /// What a value leaves of each axis: one word for every value and axis.
    leaves: Vec<Domains>,
}

impl Table {
    fn new(space: &Space<'_>) -> Self {
        let sizes = space.sizes.clone();
        assert!(sizes.iter().all(|size| *size < 64), "an axis is one word");
        let starts = sizes
            .iter()
            .scan(0, |total, size| {
                Some(std::mem::replace(total, *total + size))
            })
            .collect();
        let mut leaves = Vec::new();
        for (axis, size) in sizes.iter().enumerate() {
            for value in 0..*size {
                let of = |other: usize| match other == axis {
                    true => 1 << value,
                    false => (0..sizes[other])
                        .filter(|w| (space.allowed)((axis, value), (other, *w)))
                        .fold(0, |word, w| word | 1 << w),
                };
                leaves.push((0..sizes.len()).map(of).collect());
            }
        }
        Table {
            sizes,
            starts,
            leaves,
        }
    }

    fn all(&self) -> Domains {
        self.sizes.iter().map(|size| (1 << size) - 1).collect()
    }

    /// What is left once an axis has this value; `None` when some axis has
    /// nothing left.
    fn set(&self, domains: &Domains, (axis, value): (usize, usize)) -> Option<Domains> {
        let leaves = &self.leaves[self.starts[axis] + value];
        let left: Domains = domains.iter().zip(leaves).map(|(a, b)| a & b).collect();
        left.iter().all(|word| *word != 0).then_some(left)
    }

    /// Sets the axes in turn, preferring what `gain` likes; `None` when that
    /// cannot be done.
    fn complete(
        &self,
        domains: &Domains,
        order: &[usize],
        gain: &mut dyn FnMut(&Domains, (usize, usize)) -> u64,
    ) -> Option<Row> {
        let Some((axis, rest)) = order.split_first() else {
            let values = domains.iter().map(|word| word.trailing_zeros() as usize);
            return Some(values.collect());
        };
        let mut values: Vec<(u64, usize)> = (0..self.sizes[*axis])
            .filter(|value| domains[*axis] & 1 << value != 0)
            .map(|value| (gain(domains, (*axis, value)), value))
            .collect();
        values.sort_by_key(|(gain, _)| std::cmp::Reverse(*gain));
        values.into_iter().find_map(|(_, value)| {
            let left = self.set(domains, (*axis, value))?;
            self.complete(&left, rest, gain)
        })
    }

    /// Some row that holds both values, if there can be one.
    fn extend(&self, a: (usize, usize), b: (usize, usize)) -> Option<Row> {
        let domains = self.set(&self.all(), a)?;
        let domains = (domains[b.0] & 1 << b.1 != 0).then(|| self.set(&domains, b))??;
        let order: Vec<usize> = (0..self.sizes.len()).collect();
        self.complete(&domains, &order, &mut |_, _| 0)
    }
}

impl Space<'_> {
    /// Some row that holds both values, if there can be one.
    pub fn extend(&self, a: (usize, usize), b: (usize, usize)) -> Option<Row> {
        Table::new(self).extend(a, b)
    }

    /// The rows. The same seed makes the same ones.
    pub fn cover(&self, seed: u64) -> Vec<Row> {
        let table = Table::new(self);
        let mut random = Random(seed);
        let mut pairs = Pairs::new(&self.sizes);
        let mut rows = Vec::new();
        for (a, b) in self.shuffled(&mut random) {
            if !pairs.wanted[pairs.index(a, b)] || table.extend(a, b).is_none() {
                continue;
            }
            let mut best: Option<(usize, Row)> = None;
            for _ in 0..CANDIDATES {
                let order = random.permutation(self.sizes.len());
                let mut gain = |domains: &Domains, at: (usize, usize)| {
                    let set = domains.iter().enumerate();
                    let new = set
                        .filter(|(axis, word)| *axis != at.0 && word.is_power_of_two())
                        .map(|(axis, word)| (axis, word.trailing_zeros() as usize))
                        .filter(|other| pairs.wanted[pairs.index(*other, at)])
                        .count() as u64;
                    // Ties are broken by chance: no value is preferred.
                    new << 16 | random.next() >> 48
                };
                let start = table
                    .set(&table.all(), a)
                    .and_then(|left| table.set(&left, b));
                let row = start.and_then(|left| table.complete(&left, &order, &mut gain));
                let Some(row) = row else { continue };
                let count = new_pairs(&pairs, &row);
                if best.as_ref().is_none_or(|(most, _)| count > *most) {
                    best = Some((count, row));
                }
            }
            let (_, row) = best.expect("a pair that can be extended has a row");
            pairs.take(&row);
            rows.push(row);
        }
        rows
    }

    /// All pairs of values of different axes, in some order.
    fn shuffled(&self, random: &mut Random) -> Vec<((usize, usize), (usize, usize))> {
        let mut all = Vec::new();
        for b in 0..self.sizes.len() {
            for a in 0..b {
                for v in 0..self.sizes[a] {
                    all.extend((0..self.sizes[b]).map(|w| ((a, v), (b, w))));
                }
            }
        }
        let order = random.permutation(all.len());
        order.into_iter().map(|index| all[index]).collect()
    }
}

fn new_pairs(pairs: &Pairs, row: &Row) -> usize {
    let mut count = 0;
    for b in 0..row.len() {
        for a in 0..b {
            count += usize::from(pairs.wanted[pairs.index((a, row[a]), (b, row[b]))]);
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks by itself, row by row, that every pair which some row can hold
    /// is held by one.
    fn check(space: &Space<'_>, seed: u64) -> usize {
        let rows = space.cover(seed);
        for row in &rows {
            for b in 0..row.len() {
                for a in 0..b {
                    assert!((space.allowed)((a, row[a]), (b, row[b])), "{row:?}");
                }
            }
        }
        for b in 0..space.sizes.len() {
            for a in 0..b {
                for v in 0..space.sizes[a] {
                    for w in 0..space.sizes[b] {
                        let held = rows.iter().any(|row| row[a] == v && row[b] == w);
                        let possible = space.extend((a, v), (b, w)).is_some();
                        assert_eq!(held, possible, "axis {a} value {v}, axis {b} value {w}");
                    }
                }
            }
        }
        rows.len()
    }

    #[test]
    fn every_pair_is_covered_with_few_rows() {
        let space = Space {
            sizes: vec![3; 13],
            allowed: &|_, _| true,
        };
        // The best known array for thirteen axes of three has 15 rows.
        assert!(check(&space, 1) <= 24);
    }

    #[test]
    fn pairs_that_exclude_each_other_also_through_a_third_are_left_out() {
        // Value 0 of axis 2 goes with 0 of axis 0 and 0 of axis 1 only; the
        // only other value of axis 2 with neither: (0,0) and (1,1) exclude.
        let allowed = |a: (usize, usize), b: (usize, usize)| {
            let (low, high) = if a.0 < b.0 { (a, b) } else { (b, a) };
            high.0 != 2 || low.1 == high.1
        };
        let space = Space {
            sizes: vec![2, 2, 2],
            allowed: &allowed,
        };
        assert!(space.extend((0, 0), (1, 1)).is_none());
        assert_eq!(check(&space, 5), 2);
    }

    #[test]
    fn the_seed_decides_the_rows() {
        let space = Space {
            sizes: vec![4, 5, 6, 2],
            allowed: &|_, _| true,
        };
        assert_eq!(space.cover(3), space.cover(3));
        assert_ne!(space.cover(3), space.cover(4));
    }
}
