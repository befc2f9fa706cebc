//! Innkeeper from the outside: the real binary, real components built from source, real sockets, real storage.

// A test fails by a panic, in its helpers too; tables of cases have the types that they have; and a name is public for
// the other modules of this one crate.
#![allow(clippy::unwrap_used, clippy::type_complexity, unreachable_pub)]

mod harness;
mod parts;
mod wire;

mod layers;

mod clients;
mod compress;
mod protocol;

mod accounts;
mod cli;
mod publish;
mod quickstart;
mod tenants;
mod traffic;

mod bad_input;
mod batching;
mod caching;
mod connections;
mod durability;
mod hostile;
mod http2;
mod instances;
mod jobs;
mod limits;
mod networks;
mod operations;
mod sequences;
mod tls;
mod tokens;
mod traces;
mod training;
