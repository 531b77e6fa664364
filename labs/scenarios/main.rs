//! Scenarios over real nodes: what must hold when parts of a cluster are killed, cut off or attacked.
//!
//! Each drives the real binary as a user would. They need root and the binary; a scenario that lacks
//! something fails and says what.

mod lab;
mod machine;

mod attach;
mod attack;
mod back;
mod bulk;
mod churn;
mod converge;
mod crash;
mod doctor_underlay;
mod drops;
mod egress;
mod etcdctl;
mod faults;
mod grow;
mod guest;
mod host_image;
mod impaired;
mod inside;
mod isolation;
mod kernel;
mod links;
mod main_job;
mod many;
mod node_filter;
mod outage;
mod packages;
mod power;
mod refused;
mod repair;
mod six;
mod standstill;
mod steps;
mod store_leader;
mod topologies;
mod virtual_nodes;
mod why;
mod woken;
