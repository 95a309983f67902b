//! HBONE: HTTP/2 CONNECT tunnels over mutual TLS, both ends, and the pool.
