// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Which cases a run measures.

use super::case::{Case, Work};
use crate::cli::Algorithm;
use crate::oracle::Fill;
use crate::spec::BufferType;

/// What kinds of work there are to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// What a request costs: empty, prep_fn only, iteration only
    Cost,
    Copy,
    Checksum,
    Fill,
    /// Reading, processing and writing blocks of a file in memory
    Pipeline,
}

/// The buffer types that a user can choose from.
pub const TYPES: [BufferType; 5] = [
    BufferType::User,
    BufferType::Fixed,
    BufferType::Vec,
    BufferType::RegVec,
    BufferType::Arena,
];

/// What is not chosen is varied.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    pub kinds: Vec<Kind>,
    pub types: Vec<BufferType>,
    pub sizes: Vec<u64>,
    pub depths: Vec<usize>,
    pub linked: bool,
    pub rings: Option<usize>,
}

const KINDS: [Kind; 5] = [
    Kind::Cost,
    Kind::Copy,
    Kind::Checksum,
    Kind::Fill,
    Kind::Pipeline,
];
const SIZES: [u64; 5] = [512, 4 << 10, 64 << 10, 1 << 20, 16 << 20];
const DEPTHS: [usize; 3] = [4, 16, 64];
/// A file for the longest pipeline at the greatest depth stays in memory.
const LARGEST_BLOCK: u64 = 1 << 20;
/// Of the cases that vary how requests are submitted.
const SMALL: u64 = 4 << 10;

const BYTE: Fill = Fill::Byte(0xa5);
const WORD: Fill = Fill::Word(0x0123_4567_89ab_cdef);

fn or<T: Copy>(chosen: &[T], all: &[T]) -> Vec<T> {
    if chosen.is_empty() { all } else { chosen }.to_vec()
}

/// All cases, in the order in which they are measured.
pub fn cases(selection: &Selection) -> Vec<Case> {
    let sizes = or(&selection.sizes, &SIZES);
    let types = or(&selection.types, &TYPES);
    let mut cases = Vec::new();
    for kind in or(&selection.kinds, &KINDS) {
        for work in works(kind, &types) {
            let small = matches!(kind, Kind::Pipeline).then_some(LARGEST_BLOCK);
            let sizes = match work {
                Work::Empty | Work::Prepare => vec![0],
                _ => sizes.clone(),
            };
            let sizes = sizes
                .into_iter()
                .filter(|size| Some(*size) <= small.or(Some(u64::MAX)));
            cases.extend(sizes.map(|size| Case::new(work, size)));
        }
    }
    submitted(cases, selection)
}

/// The cases as chosen; or, where nothing is, each alone, and a few of them in
/// other ways, too.
fn submitted(cases: Vec<Case>, selection: &Selection) -> Vec<Case> {
    let rings = selection.rings.unwrap_or(1);
    if !selection.depths.is_empty() || selection.linked || selection.rings.is_some() {
        let depths = or(&selection.depths, &[1]);
        return cases
            .iter()
            .flat_map(|case| {
                depths.iter().map(|depth| Case {
                    depth: *depth,
                    linked: selection.linked,
                    rings,
                    ..*case
                })
            })
            .collect();
    }
    let mut all = cases.clone();
    for case in cases {
        let chosen = matches!(
            case.work,
            Work::Empty | Work::Copy(BufferType::Fixed, BufferType::Arena) | Work::ReadCopyWrite
        );
        if !chosen || !matches!(case.size, 0 | SMALL) {
            continue;
        }
        for depth in DEPTHS {
            all.push(Case { depth, ..case });
            if !matches!(case.work, Work::ReadCopyWrite) {
                let linked = true;
                all.push(Case {
                    depth,
                    linked,
                    ..case
                });
            }
        }
        for rings in [2, 4] {
            all.push(Case { rings, ..case });
        }
    }
    all
}

fn works(kind: Kind, types: &[BufferType]) -> Vec<Work> {
    let iterated = types
        .iter()
        .copied()
        .filter(|kind| *kind != BufferType::Arena);
    match kind {
        Kind::Cost => [Work::Empty, Work::Prepare]
            .into_iter()
            .chain(iterated.map(Work::Iterate))
            .collect(),
        Kind::Copy => types
            .iter()
            .map(|kind| Work::Copy(*kind, *kind))
            .chain(iterated.map(|kind| Work::Copy(kind, BufferType::Arena)))
            .collect(),
        Kind::Checksum => [Algorithm::Crc32c, Algorithm::Xxh64]
            .into_iter()
            .flat_map(|algorithm| {
                types
                    .iter()
                    .map(move |kind| Work::Checksum(algorithm, *kind))
            })
            .collect(),
        Kind::Fill => [BYTE, WORD]
            .into_iter()
            .flat_map(|fill| types.iter().map(move |kind| Work::Fill(fill, *kind)))
            .collect(),
        Kind::Pipeline => vec![
            Work::ReadCopyWrite,
            Work::ReadChecksum(Algorithm::Xxh64),
            Work::FillWrite(BYTE),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let cases = cases(&Selection::default());
        let names: HashSet<String> = cases.iter().map(Case::to_string).collect();
        assert_eq!(names.len(), cases.len());
        assert!(cases.len() > 150, "{} cases", cases.len());
    }

    #[test]
    fn the_default_varies_depth_links_and_rings() {
        let cases = cases(&Selection::default());
        assert!(cases.iter().any(|case| case.depth == 64 && case.linked));
        assert!(cases.iter().any(|case| case.rings == 4));
        assert!(cases.iter().all(|case| case.rings == 1 || case.depth == 1));
    }

    #[test]
    fn what_is_chosen_holds_for_every_case() {
        let selection = Selection {
            kinds: vec![Kind::Copy],
            types: vec![BufferType::User],
            sizes: vec![4096],
            depths: vec![8, 16],
            linked: true,
            rings: Some(2),
        };
        let cases = cases(&selection);
        assert_eq!(cases.len(), 4, "user to user and to the arena, twice");
        assert!(cases.iter().all(|case| case.linked && case.rings == 2));
    }

    #[test]
    fn the_arena_is_never_iterated() {
        let iterated = |case: &Case| matches!(case.work, Work::Iterate(BufferType::Arena));
        assert!(!cases(&Selection::default()).iter().any(iterated));
    }
}
