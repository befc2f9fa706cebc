//! Innkeeper from the outside: the real binary, real components built from source, real sockets, real storage.

mod harness;

mod layers;

mod protocol;
mod clients;

mod publish;
mod tenants;
mod cli;

mod hostile;
mod limits;
mod bad_input;
mod connections;
mod durability;
