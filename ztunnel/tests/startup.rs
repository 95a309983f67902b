//! What ztunnel says when it cannot start: one line for each thing, with what to do.

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::process::{Child, Command, Output, Stdio};
    use std::time::Duration;

    use ambit_kit::Namespace;

    fn start(namespace: &Namespace, settings: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ztunnel"));
        command.env_clear().env("XDS_ADDRESS", "").envs(settings.iter().copied());
        namespace.within(move || command.output().unwrap())
    }

    fn complaint(output: &Output) -> String {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr.clone()).unwrap()
    }

    /// A process that ends with the test.
    struct Ended(Child);

    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    const DEDICATED: [(&str, &str); 3] =
        [("PROXY_MODE", "dedicated"), ("PROXY_WORKLOAD_INFO", "shop/web/web"), ("IDENTITY_DIR", "/nowhere")];

    fn with_world(path: &str) -> Vec<(&str, &str)> {
        [&DEDICATED[..], &[("LOCAL_XDS_PATH", path)]].concat()
    }

    #[test]
    fn wrong_settings_are_all_named_at_once() {
        let namespace = Namespace::new();
        let settings = [
            ("PROXY_MODE", "both"),
            ("KEEPALIVE_TIME", "0"),
            ("CRL_PATH", "/proc/self/status"),
            ("COMPLIANCE_POLICY", "fips-140-2"),
            ("HTTP2_FRAME_SIZE", "5"),
            ("PROXY_CONFIG", "[1]"),
        ];
        let said = complaint(&start(&namespace, &settings));
        assert_eq!(said.lines().count(), settings.len(), "{said}");
        for (name, value) in settings {
            assert!(said.contains(&format!("{name}={value:?}: ")), "{said}");
        }
        assert!(said.contains("PROXY_MODE=\"both\": write shared or dedicated"), "{said}");
    }

    #[test]
    fn the_meshs_configuration_file_moves_ports_and_the_environment_lies_over_it() {
        let namespace = Namespace::new();
        let dir = tempfile::tempdir().unwrap();
        let mesh = dir.path().join("etc/istio/config/mesh");
        std::fs::create_dir_all(mesh.parent().unwrap()).unwrap();
        std::fs::write(
            mesh,
            "defaultConfig:\n  statsPort: 15120\n  proxyAdminPort: 1\n  proxyMetadata: {CLUSTER_ID: c7}\n",
        )
        .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ztunnel"));
        command.env_clear().env("XDS_ADDRESS", "").envs(DEDICATED).current_dir(dir.path());
        command.env("PROXY_CONFIG", "proxyAdminPort: 15100").stdout(Stdio::null());
        let process = Ended(namespace.within(move || command.spawn().unwrap()));
        let get = |port: u16, path: &str| -> Result<String, std::io::Error> {
            let mut answer = Vec::new();
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
            stream.read_to_end(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        let ask = |port, path| {
            ambit_kit::eventually(Duration::from_secs(20), || namespace.within(|| get(port, path))).unwrap()
        };
        assert!(ask(15120, "/metrics").contains("istio_build"));
        // The path goes before the headers, so it can bring one along.
        let packed = ask(15120, "/metrics HTTP/1.1\r\naccept-encoding: gzip\r\nx: y");
        assert!(packed.contains("content-encoding: gzip") && !packed.contains("istio_build"), "{packed}");
        for path in ["/debug/pprof/profile?seconds=1", "/debug/pprof/heap"] {
            let answer = ask(15100, path);
            assert!(answer.starts_with("HTTP/1.1 501") && answer.contains("pgrep -x ztunnel"), "{answer}");
        }
        let dump = ask(15100, "/config_dump");
        assert!(dump.contains("\"clusterId\": \"c7\""), "{dump}");
        drop(process);
    }

    #[test]
    fn a_port_in_use_is_named_with_how_to_find_its_holder() {
        for (at, port) in [("[::]:15008", "15008"), ("[::]:15001", "15001"), ("127.0.0.1:15000", "15000")] {
            let namespace = Namespace::new();
            let _holder = namespace.within(|| TcpListener::bind(at).unwrap());
            let said = complaint(&start(&namespace, &DEDICATED));
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(said.contains(port) && said.contains("in use"), "{said}");
        }
    }

    #[test]
    fn a_local_file_that_is_missing_or_wrong_is_named_with_its_fault() {
        let namespace = Namespace::new();
        let said = complaint(&start(&namespace, &with_world("/nowhere/world.yaml")));
        assert!(said.contains("/nowhere/world.yaml") && said.contains("No such file"), "{said}");
        let dir = tempfile::tempdir().unwrap();
        let wrong = dir.path().join("world.yaml");
        std::fs::write(
            &wrong,
            "workloads:\n- uid: a\n  workloadIps: [10.0.0.256]\n  namespace: shop\n  services: {}\n",
        )
        .unwrap();
        let said = complaint(&start(&namespace, &with_world(wrong.to_str().unwrap())));
        assert!(said.contains("10.0.0.256") || said.contains("workloadIps"), "{said}");
    }
}
