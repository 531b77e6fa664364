//! Rendering of traces: the ladder for people, lines of JSON for machines.

pub mod json;
pub mod ladder;
