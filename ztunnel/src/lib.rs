//! The node proxy: carries pods' traffic over HBONE under their own identities.
