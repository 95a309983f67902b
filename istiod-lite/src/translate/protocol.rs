//! What is spoken on a port, from what manifests say (`control-plane.md` 1.6).

use ambit_cluster::kinds::service::ServicePort;
use ambit_model::service::AppProtocol;

/// Words for protocols that the mesh has no treatment for; they keep the port's number from being asked.
const OTHER: [&str; 5] = ["hbone", "mongo", "mysql", "redis", "udp"];

/// Ports whose protocols let the server speak first: guessing HTTP there would hang them.
const SERVER_FIRST: [u16; 4] = [25, 53, 3306, 27017];

/// Of a Kubernetes service's port.
pub(super) fn of_service(port: &ServicePort) -> AppProtocol {
    if matches!(port.protocol.as_str(), "UDP" | "SCTP") {
        return AppProtocol::Unknown;
    }
    let said = match port.app_protocol.as_deref() {
        Some("kubernetes.io/h2c") => return AppProtocol::Http2,
        Some("kubernetes.io/ws") => return AppProtocol::Http11,
        Some("kubernetes.io/wss") => return AppProtocol::Tls,
        Some(word) => word,
        None => port.name.as_str(),
    };
    match word(said) {
        Some(protocol) => protocol,
        None if SERVER_FIRST.contains(&port.port.0) => AppProtocol::Tcp,
        None => AppProtocol::Unknown,
    }
}

/// Of a service entry's port.
pub(super) fn of_entry(protocol: &str) -> AppProtocol {
    word(protocol).unwrap_or(AppProtocol::Unknown)
}

/// The protocol that a word, or the part of it before the first hyphen, stands for.
fn word(text: &str) -> Option<AppProtocol> {
    let text = text.to_ascii_lowercase();
    if text.starts_with("grpc-web") {
        return Some(AppProtocol::GrpcWeb);
    }
    let first = text.split('-').next().unwrap_or_default();
    Some(match first {
        "http" => AppProtocol::Http11,
        "http2" => AppProtocol::Http2,
        "grpc" => AppProtocol::Grpc,
        "https" | "tls" => AppProtocol::Tls,
        "tcp" => AppProtocol::Tcp,
        _ if OTHER.contains(&first) => AppProtocol::Unknown,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_port_of_grpc_web_says_so_by_its_name_or_its_protocol() {
        for (name, said, wanted) in [
            ("grpc-web", None, AppProtocol::GrpcWeb),
            ("GRPC-Web-shop", None, AppProtocol::GrpcWeb),
            ("shop", Some("grpc-web"), AppProtocol::GrpcWeb),
            ("grpc-web", Some("http"), AppProtocol::Http11),
            ("grpc-webs", None, AppProtocol::GrpcWeb),
            ("grpc-we", None, AppProtocol::Grpc),
            ("redis", None, AppProtocol::Unknown),
        ] {
            let port = json!({ "name": name, "port": 80, "protocol": "TCP", "appProtocol": said });
            let port: ServicePort = serde_json::from_value(port).unwrap();
            assert_eq!(of_service(&port), wanted, "{name} {said:?}");
        }
        assert_eq!(of_entry("GRPC-WEB"), AppProtocol::GrpcWeb);
        let over_udp = json!({ "name": "grpc-web", "port": 80, "protocol": "UDP" });
        assert_eq!(of_service(&serde_json::from_value(over_udp).unwrap()), AppProtocol::Unknown);
    }
}
