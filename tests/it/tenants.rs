//! Tenants, keys, sharing, the outer gate.
