//! The relay and reflector: forwards sealed packets between two agents of a pair.
