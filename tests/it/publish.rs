//! Publishing, listing, deleting, aliases.
