//! Guests that misbehave fail alone.
