//! Every limit, met.
