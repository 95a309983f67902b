//! Who is there: identities, certificates and the only place that builds rustls configurations.
