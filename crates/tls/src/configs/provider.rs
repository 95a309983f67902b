//! Which algorithms are used. Owns the lists: for tunnels, and for talking to the control plane.

use std::sync::{Arc, LazyLock};

use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};

/// Which algorithms and versions peers may agree on (`ztunnel.md` 2.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Algorithms {
    /// TLS 1.3, and the hybrid key exchange before the classical ones.
    #[default]
    Usual,
    /// The same, and TLS 1.2 for peers that have nothing newer.
    WithTls12,
    /// TLS 1.3 with the hybrid key exchange and no other: what is recorded today stays secret.
    PostQuantumOnly,
}

impl Algorithms {
    /// The versions, newest first.
    pub(crate) fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Usual | Self::PostQuantumOnly => &NEWEST,
            Self::WithTls12 => &NEWEST_AND_OLDER,
        }
    }
}

static NEWEST: [&SupportedProtocolVersion; 1] = [&TLS13];
static NEWEST_AND_OLDER: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

static HBONE: LazyLock<[Arc<CryptoProvider>; 3]> = LazyLock::new(|| {
    let usual = CryptoProvider {
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
    };
    let mut older = usual.clone();
    older.cipher_suites.extend([
        aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ]);
    let hybrid = hybrid_only(usual.clone());
    [usual, older, hybrid].map(Arc::new)
});

static CONTROL_PLANE: LazyLock<[Arc<CryptoProvider>; 2]> = LazyLock::new(|| {
    let usual = aws_lc_rs::default_provider();
    [usual.clone(), hybrid_only(usual)].map(Arc::new)
});

fn hybrid_only(provider: CryptoProvider) -> CryptoProvider {
    CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768], ..provider }
}

/// For tunnels.
pub(crate) fn hbone(algorithms: Algorithms) -> Arc<CryptoProvider> {
    let [usual, older, hybrid] = &*HBONE;
    Arc::clone(match algorithms {
        Algorithms::Usual => usual,
        Algorithms::WithTls12 => older,
        Algorithms::PostQuantumOnly => hybrid,
    })
}

/// For the control plane, which is never older than TLS 1.3.
pub(crate) fn control_plane(algorithms: Algorithms) -> Arc<CryptoProvider> {
    let [usual, hybrid] = &*CONTROL_PLANE;
    Arc::clone(match algorithms {
        Algorithms::Usual | Algorithms::WithTls12 => usual,
        Algorithms::PostQuantumOnly => hybrid,
    })
}
