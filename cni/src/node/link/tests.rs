//! The link with ztunnels that behave, and with such as do not.
