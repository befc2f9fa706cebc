//! Innkeeper from the outside: the real binary, real components built from source, real sockets, real storage.

mod harness;
mod parts;
mod wire;

mod layers;

mod clients;
mod protocol;

mod cli;
mod publish;
mod tenants;

mod bad_input;
mod connections;
mod durability;
mod hostile;
mod limits;
