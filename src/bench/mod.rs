// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Measurements: what a request costs, and how fast bytes go through a BPF
//! program, against user space doing the same in the same run.
//!
//! A [`case::Case`] names what is measured, [`stage`] builds it, [`rounds`]
//! measures it in alternation with its baseline, [`statistics`] says what the
//! rounds are worth. [`yardstick`] is the short list of figures that repeat,
//! counted in instructions; [`allocations`] what a request costs in memory.

pub mod allocations;
mod batch;
pub mod case;
pub mod chart;
pub mod compare;
mod pipeline;
pub mod plan;
pub mod record;
pub mod rings;
pub mod rounds;
pub mod stage;
pub mod statistics;
pub mod yardstick;
