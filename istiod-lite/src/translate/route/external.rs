//! Others that a route wants to be asked whether requests may go on (`waypoint.md` 2.10). Owns what a route leaves
//! unsaid: what is shown, and that without an answer nothing goes on.

use ambit_cluster::kinds::route::{ExternalAuth, HttpAuth};
use ambit_model::http_route::Broken;
use ambit_model::policy::TextMatch;
use ambit_model::provider::{Authorizer, BodyShown, ERROR_STATUS, OverHttp, PATIENCE, Reach, Speaks, Which};

use super::Reader;

impl Reader<'_> {
    pub(super) fn external_auth(&mut self, it: &ExternalAuth) -> Result<Authorizer, Broken> {
        let to = self.upstream(&it.backend_ref)?;
        let at = Reach { namespace: Some(to.service.namespace), host: to.service.hostname, port: to.port };
        let (speaks, shown) = match it.protocol.as_str() {
            "GRPC" => {
                let named = it.grpc.as_ref().map(|it| it.allowed_headers.as_slice()).unwrap_or_default();
                (Speaks::Grpc, all_or(named))
            }
            "HTTP" => {
                let unsaid = HttpAuth::default();
                let http = it.http.as_ref().unwrap_or(&unsaid);
                (Speaks::Http(Box::new(over_http(http))), these(&http.allowed_headers))
            }
            other => return Err(self.unsupported(&format!("nobody is asked by {other}"))),
        };
        let most = it.forward_body.map(|it| usize::from(it.max_size)).filter(|most| *most > 0);
        Ok(Authorizer {
            at,
            speaks,
            shown,
            patience: PATIENCE,
            fail_open: false,
            error_status: ERROR_STATUS,
            reroute: false,
            body: most.map(|most| BodyShown { most, partial: false, raw: true }),
        })
    }
}

fn over_http(it: &HttpAuth) -> OverHttp {
    OverHttp {
        prefix: it.path.as_str().into(),
        add: Vec::new(),
        onward: all_or(&it.allowed_response_headers),
        back: Which::default(),
        back_refused: Which::All,
    }
}

/// These headers, or all of them if none is named.
fn all_or(names: &[String]) -> Which {
    if names.is_empty() { Which::All } else { these(names) }
}

fn these(names: &[String]) -> Which {
    Which::These(names.iter().map(|name| TextMatch::Exact(name.to_ascii_lowercase().into())).collect())
}
