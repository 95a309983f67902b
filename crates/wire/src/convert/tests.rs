//! Conversions against the specification's golden bytes, what upstream really sends, and arbitrary input.

mod arbitrary;
mod golden;
mod refused;
