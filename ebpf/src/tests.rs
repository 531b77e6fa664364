//! The programs over the real kernel by `BPF_PROG_TEST_RUN`: a packet in, a decision out. Needs root.

mod bed;
mod chain;
mod drops;
mod endpoint;
mod fragments;
mod gateway;
mod keeper;
mod marks;
mod marks_wire;
mod memory;
mod model;
mod neighbour;
mod overlay;
mod probe;
mod renew;
mod short_way;
mod too_big;
mod upgrade;
mod wire;
