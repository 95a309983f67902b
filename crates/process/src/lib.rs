//! How every program starts, stops, is configured and is observed.
