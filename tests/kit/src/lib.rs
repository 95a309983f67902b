//! Fakes, builders and namespaces for tests.
