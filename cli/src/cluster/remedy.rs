//! What to do when a cluster cannot be asked. Owns those words; what went wrong is the errors' own to say.

use std::error::Error;

use ambit_cluster::api::{ApiError, OpenError};

/// What to do about an error, or about what caused it; none where it says so itself.
pub(crate) fn remedy(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<ApiError>() {
            return of_an_answer(error);
        }
        if let Some(OpenError::Kubeconfig { .. }) = error.downcast_ref() {
            return Some(
                "`kubectl config get-contexts` lists what there is; --kubeconfig and --context choose",
            );
        }
        cause = error.source();
    }
    None
}

fn of_an_answer(error: &ApiError) -> Option<&'static str> {
    match error {
        ApiError::Unreachable(_) | ApiError::Silent { .. } => {
            Some("see `kubectl cluster-info`, or name another cluster with --kubeconfig or --context")
        }
        ApiError::Unknown => Some("log in to the cluster again, or name another user with --context"),
        ApiError::Forbidden { .. } => {
            Some("`kubectl auth can-i --list` shows what this account may do; use one that may do this")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("it did not work")]
    struct Above(#[source] ApiError);

    #[test]
    fn a_cluster_that_cannot_be_asked_is_told_with_what_to_do_wherever_the_cause_is() {
        let refused = || Box::new(io::Error::from(io::ErrorKind::ConnectionRefused));
        for (error, word) in [
            (ApiError::Unreachable(refused()), Some("kubectl cluster-info")),
            (ApiError::Silent { limit: Duration::from_secs(5) }, Some("--context")),
            (ApiError::Unknown, Some("log in")),
            (ApiError::Forbidden { message: "pods".into() }, Some("auth can-i")),
            (ApiError::Conflict, None),
        ] {
            let said = error.to_string();
            let told = remedy(&Above(error));
            assert_eq!(
                told.map(|it| word.is_some_and(|word| it.contains(word))),
                word.map(|_| true),
                "{said}"
            );
        }
        assert_eq!(remedy(&io::Error::other("x")), None);
    }
}
