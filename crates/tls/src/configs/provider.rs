//! Which algorithms are used. Owns the two lists: for tunnels, and for talking to the control plane.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// Tunnels: two suites, and the hybrid key exchange before the classical ones (`ztunnel.md` 2.1).
static HBONE: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![
            aws_lc_rs::kx_group::X25519MLKEM768,
            aws_lc_rs::kx_group::X25519,
            aws_lc_rs::kx_group::SECP256R1,
        ],
        ..aws_lc_rs::default_provider()
    })
});

static CONTROL_PLANE: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

pub(crate) fn hbone() -> Arc<CryptoProvider> {
    Arc::clone(&HBONE)
}

pub(crate) fn control_plane() -> Arc<CryptoProvider> {
    Arc::clone(&CONTROL_PLANE)
}
