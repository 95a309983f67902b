//! What ztunnel says when it cannot start: one line for each thing, with what to do.

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process::{Command, Output};

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

    const DEDICATED: [(&str, &str); 3] =
        [("PROXY_MODE", "dedicated"), ("PROXY_WORKLOAD_INFO", "shop/web/web"), ("IDENTITY_DIR", "/nowhere")];

    fn with_world(path: &str) -> Vec<(&str, &str)> {
        [&DEDICATED[..], &[("LOCAL_XDS_PATH", path)]].concat()
    }

    #[test]
    fn wrong_settings_are_all_named_at_once() {
        let namespace = Namespace::new();
        let settings = [("PROXY_MODE", "both"), ("KEEPALIVE_TIME", "0"), ("CRL_PATH", "/etc/crl.pem")];
        let said = complaint(&start(&namespace, &settings));
        assert_eq!(said.lines().count(), 3, "{said}");
        assert!(said.contains("PROXY_MODE=\"both\": write shared or dedicated"), "{said}");
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
