//! Changes one by one against the whole at once: whatever the order in which objects come, change and go, what is
//! published must be what a control plane that starts now would publish.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ambit_cluster::{Object, ObjectRef};
use ambit_wire::convert::ResourceType;
use ambit_xds::library::Library;

use super::*;
use crate::mesh::Mesh;
use crate::testing::objects_in;

/// Objects in several versions each, chosen so that they take part in each other: selectors that begin and end to
/// match, hosts that several claim, policies in the namespace and the root namespace, slices with and without pods.
const POOL: &str = r#"
{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {topology.kubernetes.io/zone: z1}}}
{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {topology.kubernetes.io/zone: z2}}}
{apiVersion: v1, kind: Namespace, metadata: {name: istio-system, labels: {topology.istio.io/network: net1}}}
{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}
{apiVersion: v1, kind: Namespace, metadata: {name: a, annotations: {networking.istio.io/traffic-distribution: PreferClose}}}
{apiVersion: v1, kind: Namespace, metadata: {name: a}}
{apiVersion: v1, kind: Pod, metadata: {name: p1, namespace: a, uid: u1, labels: {app: x}}, spec: {nodeName: n1}, status: {phase: Running, podIP: 10.0.0.1}}
{apiVersion: v1, kind: Pod, metadata: {name: p1, namespace: a, uid: u1, labels: {app: y}}, spec: {nodeName: n2}, status: {phase: Running, podIP: 10.0.0.1}}
{apiVersion: v1, kind: Pod, metadata: {name: p1, namespace: a, uid: u2, labels: {app: x}}, spec: {nodeName: n1}, status: {phase: Failed, podIP: 10.0.0.1}}
{apiVersion: v1, kind: Pod, metadata: {name: p2, namespace: b, labels: {app: x}}, spec: {nodeName: n1, containers: [{name: c, ports: [{name: web, containerPort: 81}]}]}, status: {phase: Running, podIP: 10.0.0.2}}
{apiVersion: v1, kind: Pod, metadata: {name: p3, namespace: istio-system, labels: {app: x}}, spec: {nodeName: n1}, status: {phase: Running, podIP: 10.0.0.3}}
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: a}, spec: {clusterIP: 10.1.0.1, selector: {app: x}, ports: [{port: 80}]}}
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: a}, spec: {clusterIP: 10.1.0.1, selector: {app: y}, ports: [{port: 80, targetPort: 8080}]}}
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: a}, spec: {clusterIP: 10.1.0.1, ports: [{port: 80, targetPort: 8080}]}}
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: a}, spec: {type: ExternalName, externalName: x.example, ports: [{port: 80}]}}
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: b}, spec: {selector: {app: x}, ports: [{port: 80, targetPort: web}]}}
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {name: e, namespace: a, labels: {kubernetes.io/service-name: s}}, endpoints: [{addresses: [10.2.0.1], nodeName: n1}, {addresses: [10.0.0.1], targetRef: {kind: Pod, name: p1, namespace: a, uid: u1}}], ports: [{port: 8081}]}
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: {name: e, namespace: a, labels: {kubernetes.io/service-name: other}}, endpoints: [{addresses: [10.2.0.1], nodeName: n1, zone: z9}], ports: [{port: 8081}]}
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: x1, namespace: a, creationTimestamp: '2026-01-01T00:00:00Z'}, spec: {hosts: [h.example, s.a.svc.cluster.local], resolution: STATIC, ports: [{number: 80}], workloadSelector: {labels: {app: x}}}}
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: x1, namespace: a, creationTimestamp: '2026-01-03T00:00:00Z', labels: {app: x}}, spec: {hosts: [h.example], resolution: STATIC, ports: [{number: 80, targetPort: 81}], endpoints: [{address: 10.3.0.1}, {address: 10.3.0.1}]}}
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: x2, namespace: a, creationTimestamp: '2026-01-02T00:00:00Z'}, spec: {hosts: [h.example], resolution: STATIC, ports: [{number: 80}], workloadSelector: {labels: {app: y}}}}
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: x3, namespace: b, creationTimestamp: '2026-01-02T00:00:00Z'}, spec: {hosts: [h.example, i.example], resolution: DNS, ports: [{number: 80}]}}
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: w, namespace: a}, spec: {address: 10.4.0.1, labels: {app: x}}}
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: w, namespace: a, labels: {app: y}}, spec: {address: 10.4.0.1, labels: {app: x}}}
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: z, namespace: a}, spec: {selector: {matchLabels: {app: x}}, rules: [{}]}}
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: z, namespace: a}, spec: {selector: {matchLabels: {app: y}}, rules: [{}]}}
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: z, namespace: a}, spec: {action: AUDIT, selector: {matchLabels: {app: x}}, rules: [{}]}}
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: z, namespace: istio-system}, spec: {selector: {matchLabels: {app: x}}, rules: [{}]}}
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: z, namespace: istio-system}, spec: {rules: [{}]}}
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: root, namespace: istio-system}, spec: {mtls: {mode: STRICT}}}
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: root, namespace: istio-system}, spec: {mtls: {mode: STRICT}, selector: {matchLabels: {app: x}}}}
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: all, namespace: a}, spec: {mtls: {mode: PERMISSIVE}}}
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: all, namespace: a}, spec: {mtls: {mode: STRICT}}}
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: some, namespace: a}, spec: {selector: {matchLabels: {app: x}}, portLevelMtls: {80: {mode: STRICT}, 81: {mode: DISABLE}}}}
{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: some, namespace: a}, spec: {mtls: {mode: STRICT}, selector: {matchLabels: {app: y}}}}
{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {mesh: 'on'}}}
{apiVersion: v1, kind: Namespace, metadata: {name: b, labels: {mesh: 'on', trusted: 'yes'}}}
{apiVersion: v1, kind: Namespace, metadata: {name: b, labels: {trusted: 'yes'}}}
{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: 'trustDomain: other.example'}}
{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: 'rootNamespace: a'}}
{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: 'trustDomainAliases: [old.example]'}}
{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: '{discoverySelectors: [{matchLabels: {mesh: "on"}}]}'}}
{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: '{discoverySelectors: [{matchExpressions: [{key: mesh, operator: Exists}]}, {matchLabels: {kubernetes.io/metadata.name: istio-system}}], serviceEntryVisibility: {defaultVisibility: NAMESPACE, policies: [{visibility: PUBLIC, matchingRules: [{namespaceSelector: {matchLabels: {trusted: "yes"}}}]}]}}'}}
{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: '{serviceEntryVisibility: {policies: [{visibility: NONE, matchingRules: [{namespaceSelector: {matchLabels: {trusted: "yes"}}}]}]}}'}}
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g1, namespace: a, labels: {topology.istio.io/network: net2}}, spec: {gatewayClassName: istio-remote, listeners: [{name: h, port: 15008, protocol: HBONE}]}, status: {addresses: [{type: IPAddress, value: 192.0.2.1}]}}
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g1, namespace: a}, spec: {gatewayClassName: istio-remote, listeners: [{name: h, port: 15008, protocol: HBONE}]}, status: {addresses: [{type: IPAddress, value: 192.0.2.1}]}}
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g2, namespace: b, labels: {topology.istio.io/network: net2}}, spec: {gatewayClassName: istio-remote, listeners: [{name: h, port: 15008, protocol: HBONE}]}, status: {addresses: [{type: IPAddress, value: 192.0.2.1}, {type: Hostname, value: gw.example}]}}
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g2, namespace: b, labels: {topology.istio.io/network: net1}}, spec: {gatewayClassName: istio-remote, listeners: [{name: h, port: 15009, protocol: HBONE}]}, status: {addresses: [{type: IPAddress, value: 192.0.2.2}]}}
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: w2, namespace: b}, spec: {address: 10.4.0.2, network: net2}}
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: x4, namespace: b, labels: {istio.io/rev: other}}, spec: {hosts: [h.example], resolution: STATIC, ports: [{number: 80}], endpoints: [{address: 10.3.0.2, network: net2}]}}
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: y, namespace: a, labels: {istio.io/rev: r2}}, spec: {selector: {matchLabels: {app: x}}, rules: [{}]}}
{apiVersion: v1, kind: ConfigMap, metadata: {name: istio-r1, namespace: istio-system}, data: {mesh: 'trustDomain: r1.example'}}
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: y, namespace: a, labels: {istio.io/rev: prod}}, spec: {selector: {matchLabels: {app: x}}, rules: [{}]}}
{apiVersion: v1, kind: Service, metadata: {name: tag, namespace: istio-system, labels: {istio.io/rev: r1, istio.io/tag: prod}}, spec: {ports: [{port: 80}]}}
{apiVersion: v1, kind: Service, metadata: {name: tag, namespace: istio-system, labels: {istio.io/rev: r2, istio.io/tag: prod}}, spec: {ports: [{port: 80}]}}
"#;

/// Waypoints: who goes through which, by labels of objects and namespaces, by classes, by what a gateway allows, by
/// policies that are attached; and routes, by what they name.
const WAYPOINTS: &str = r#"
{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {istio.io/use-waypoint: w, team: x}}}
{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {istio.io/use-waypoint: w, istio.io/use-waypoint-namespace: b, team: y}}}
{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {team: x}, annotations: {ambit.io/waypoint-policy: strict}}}
{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {istio.io/use-waypoint: w, istio.io/use-waypoint-canary: v, istio.io/ingress-use-waypoint: 'true'}, annotations: {istio.io/use-waypoint-canary-weight: '7'}}}
{apiVersion: v1, kind: Namespace, metadata: {name: b, labels: {istio.io/use-waypoint: none}}}
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: own}, spec: {controllerName: istio.io/mesh-controller}}
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: own, labels: {istio.io/waypoint-for: all}}, spec: {controllerName: example.com/other}}
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: istio-waypoint, labels: {istio.io/waypoint-for: workload}}, spec: {controllerName: istio.io/mesh-controller}}
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: w, namespace: a, labels: {istio.io/waypoint-for: all}}, spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}, status: {addresses: [{type: Hostname, value: w.a.svc.cluster.local}]}}
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: w, namespace: a}, spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}}
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: w, namespace: a, annotations: {ambient.istio.io/waypoint-inbound-binding: PROXY/15088}}, spec: {gatewayClassName: own, listeners: [{name: mesh, port: 15088, protocol: TCP}]}, status: {addresses: [{value: 10.9.0.1}]}}
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: w, namespace: b}, spec: {gatewayClassName: own, listeners: [{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: x}}}}}]}, status: {addresses: [{type: Hostname, value: w.b.svc.cluster.local}]}}
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: w, namespace: b}, spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {namespaces: {from: All}}}]}}
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: v, namespace: a}, spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}, status: {addresses: [{type: Hostname, value: v.a.svc.cluster.local}]}}
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: a}, spec: {clusterIP: 10.1.0.1, selector: {app: x}, ports: [{port: 80}]}}
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: a, labels: {istio.io/use-waypoint: w, istio.io/use-waypoint-namespace: b}}, spec: {clusterIP: 10.1.0.1, ports: [{port: 80}, {port: 81}]}}
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: a, labels: {istio.io/use-waypoint: w, istio.io/use-waypoint-canary: w, istio.io/use-waypoint-canary-namespace: b}, annotations: {istio.io/use-waypoint-canary-weight: '9'}}, spec: {clusterIP: 10.1.0.1, ports: [{port: 80}]}}
{apiVersion: v1, kind: Service, metadata: {name: t, namespace: b, labels: {istio.io/use-waypoint: w}}, spec: {clusterIP: 10.1.0.2, ports: [{port: 80}]}}
{apiVersion: v1, kind: Service, metadata: {name: t, namespace: b}, spec: {type: ExternalName, externalName: x.example, ports: [{port: 80}]}}
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e, namespace: a, labels: {istio.io/use-waypoint: w}}, spec: {hosts: [h.example], resolution: STATIC, ports: [{number: 80}], endpoints: [{address: 10.3.0.1, labels: {istio.io/use-waypoint: w}}, {address: 10.3.0.2}]}}
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e, namespace: a}, spec: {hosts: [h.example, i.example], resolution: DNS, ports: [{number: 80}]}}
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e, namespace: b, labels: {istio.io/use-waypoint: w, istio.io/use-waypoint-namespace: a}}, spec: {hosts: [h.example], resolution: DNS, ports: [{number: 81}]}}
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: m, namespace: a}, spec: {address: 10.4.0.1, labels: {istio.io/use-waypoint: w}}}
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: m, namespace: a}, spec: {address: 10.4.0.1}}
{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: a, labels: {app: x}}, spec: {nodeName: n1}, status: {phase: Running, podIP: 10.0.0.1}}
{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: a, labels: {app: x, istio.io/use-waypoint: w, istio.io/use-waypoint-namespace: b}}, spec: {nodeName: n1}, status: {phase: Running, podIP: 10.0.0.1}}
{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: a, labels: {gateway.networking.k8s.io/gateway-name: w}}, spec: {nodeName: n1}, status: {phase: Running, podIP: 10.0.0.1}}
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: z, namespace: a}, spec: {targetRefs: [{kind: Service, name: s}], rules: [{}]}}
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: z, namespace: a}, spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: w}], rules: [{}]}}
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: z, namespace: a}, spec: {targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: e}], rules: [{}]}}
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: z, namespace: istio-system}, spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}], rules: [{}]}}
{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: z, namespace: a}, spec: {targetRefs: [{kind: Service, name: s}], action: CUSTOM, provider: {name: them}, rules: [{}]}}
{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: 'extensionProviders: [{name: them, envoyExtAuthzGrpc: {service: authz.a.svc, port: 9000}}]'}}
{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {mesh: 'extensionProviders: [{name: them, envoyExtAuthzHttp: {service: authz.a.svc, port: 9000}}, {name: others, envoyExtAuthzGrpc: {service: t.b.svc.cluster.local, port: 80}}]'}}
{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {name: k, namespace: a}, spec: {targetRefs: [{kind: Service, name: s}], jwtRules: [{issuer: me}]}}
{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {name: k, namespace: a}, spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: w}], jwtRules: [{issuer: me}]}}
{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {name: k, namespace: a}, spec: {targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: e}], jwtRules: [{issuer: me}]}}
{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {name: k, namespace: istio-system}, spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}], jwtRules: [{issuer: me}]}}
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: a}, spec: {parentRefs: [{group: '', kind: Service, name: s}], rules: [{backendRefs: [{name: t, namespace: b, port: 80}, {name: s, port: 81}]}]}}
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: a}, spec: {parentRefs: [{group: '', kind: Service, name: s}], rules: [{filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, backendRef: {name: t, namespace: b, port: 80}}}], backendRefs: [{name: s, port: 80}]}]}}
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: a}, spec: {parentRefs: [{group: networking.istio.io, kind: ServiceEntry, name: e}, {name: front}], rules: [{backendRefs: [{group: networking.istio.io, kind: Hostname, name: h.example, port: 80}]}]}}
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: b}, spec: {parentRefs: [{group: '', kind: Service, name: s, namespace: a, port: 81}], rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: t, port: 80}}}]}]}}
{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {name: r, namespace: a}, spec: {parentRefs: [{group: '', kind: Service, name: s}], rules: [{backendRefs: [{group: networking.istio.io, kind: Hostname, name: i.example, port: 80}]}]}}
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: v, namespace: a}, spec: {hosts: [s], http: [{route: [{destination: {host: s}, weight: 1}, {destination: {host: t.b.svc.cluster.local, port: {number: 80}}, weight: 1}], mirror: {host: h.example}}]}}
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: v, namespace: a}, spec: {hosts: ['*.svc.cluster.local', h.example], http: [{delegate: {name: d}}]}}
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: v, namespace: b}, spec: {hosts: [s.a.svc.cluster.local], http: [{route: [{destination: {host: t}}]}]}}
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: u, namespace: b}, spec: {hosts: ['*'], exportTo: [.], http: [{delegate: {name: d, namespace: a}}]}}
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: d, namespace: a}, spec: {http: [{match: [{uri: {prefix: /x}}], route: [{destination: {host: i.example}}]}, {route: [{destination: {host: s}}]}]}}
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: d, namespace: a}, spec: {hosts: [s, h.example], http: [{route: [{destination: {host: s}}]}]}}
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: t, namespace: a}, spec: {host: s, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v1, labels: {app: s}}]}}
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: t, namespace: a}, spec: {host: h.example, subsets: [{name: v1, labels: {app: x}}]}}
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: u, namespace: a}, spec: {host: '*.svc.cluster.local', exportTo: [b], trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}}}
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: u, namespace: b}, spec: {host: s.a.svc.cluster.local, subsets: [{name: v2, labels: {}}]}}
{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: m, namespace: istio-system}, spec: {host: '*'}}
"#;

/// As many histories as run in a second or two.
const HISTORIES: u64 = 200;

fn pool() -> Vec<Object> {
    objects(POOL)
}

fn objects(lines: &str) -> Vec<Object> {
    let folder = tempfile::tempdir().unwrap();
    let mut objects = Vec::new();
    for (number, line) in lines.lines().filter(|line| !line.is_empty()).enumerate() {
        let here = folder.path().join(number.to_string());
        std::fs::create_dir(&here).unwrap();
        std::fs::write(here.join("object.yaml"), line).unwrap();
        let read = objects_in(&here, None);
        assert_eq!(read.len(), 1, "{line}");
        objects.extend(read);
    }
    objects
}

fn published(library: &Library) -> String {
    let mut text = String::new();
    for kind in ResourceType::ALL {
        for record in library.records(kind) {
            writeln!(text, "{} {}", record.name, record.version).unwrap();
        }
    }
    text
}

fn mesh(revision: &str) -> Mesh {
    Mesh { revision: revision.into(), ..Mesh::default() }
}

fn at_once<'a>(revision: &str, objects: impl Iterator<Item = &'a Object>) -> Library {
    let mut catalog = Catalog::new(World::new(mesh(revision)));
    for object in objects {
        catalog.take(Event::Applied(object.clone()));
    }
    Library::default().with(&catalog.settle())
}

/// A small generator of our own, so that a seed means the same for ever.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

#[test]
fn every_history_ends_where_a_fresh_start_would() {
    go_through(&pool());
}

#[test]
fn every_history_of_waypoints_and_routes_ends_where_a_fresh_start_would() {
    go_through(&objects(WAYPOINTS));
}

fn go_through(pool: &[Object]) {
    for seed in 0..HISTORIES {
        let mut chance = Chance(seed);
        let revision = ["", "r1"][chance.below(2)];
        let mut catalog = Catalog::new(World::new(mesh(revision)));
        let mut library = Library::default();
        let mut now: BTreeMap<ObjectRef, Object> = BTreeMap::new();
        let mut history = Vec::new();
        for _ in 0..40 {
            for _ in 0..=chance.below(3) {
                let object = pool[chance.below(pool.len())].clone();
                let reference = object.reference.clone();
                if chance.below(3) == 0 {
                    history.push(format!("-{reference}"));
                    now.remove(&reference);
                    catalog.take(Event::Gone(reference));
                } else {
                    history.push(format!("+{reference}"));
                    now.insert(reference, object.clone());
                    catalog.take(Event::Applied(object));
                }
            }
            library = library.with(&catalog.settle());
            let (step, whole) = (published(&library), published(&at_once(revision, now.values())));
            assert_eq!(step, whole, "seed {seed}, after {history:?}");
        }
    }
}

#[test]
fn a_change_translates_only_what_it_touches() {
    let pool = pool();
    let mut catalog = Catalog::new(World::new(Mesh::default()));
    for object in pool.iter().filter(|it| it.reference.kind != ambit_cluster::Kind::ConfigMap) {
        catalog.take(Event::Applied(object.clone()));
    }
    catalog.settle();
    let find = |name: &str, nth: usize| {
        let same: Vec<_> = pool.iter().filter(|object| object.reference.to_string() == name).collect();
        same[nth].clone()
    };
    // A pod: itself. A policy without selector: itself. With one: itself and those it selects, now and before.
    for (object, touched) in [
        (find("Pod b/p2", 0), 1),
        (find("AuthorizationPolicy istio-system/z", 1), 1),
        (find("AuthorizationPolicy a/z", 2), 3),
    ] {
        catalog.take(Event::Applied(object.clone()));
        let nouns = catalog.settle().changes.len();
        assert!(nouns <= touched, "{}: {nouns} nouns", object.reference);
    }
}

#[test]
fn what_is_listed_on_a_workload_is_published() {
    let pool = pool();
    for seed in 0..HISTORIES {
        let mut chance = Chance(seed);
        let chosen: BTreeMap<_, _> = (0..20)
            .map(|_| pool[chance.below(pool.len())].clone())
            .map(|it| (it.reference.clone(), it))
            .collect();
        let library = at_once("", chosen.values());
        for resource in crate::dump::resources(&library, None) {
            let listed = resource["resource"]["workload"]["authorizationPolicies"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            for policy in listed {
                let name = policy.as_str().unwrap();
                let found = library.record(ResourceType::Authorization, name);
                assert!(
                    found.is_some(),
                    "seed {seed}: {} lists {name}, which is not published",
                    resource["name"]
                );
            }
        }
    }
}
