//! The one writer of the known world, and its readers: as in every proxy. What is promised of it is tested here, with
//! pods and their nodes.

pub use ambit_proxy::world::{World, Writer, empty};

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::sample;
    use ambit_model::workload::Workload;

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_the_control_plane_tells_of_later_is_waited_for() {
        let (world, mut writer) = empty("n1".into());
        let pod = sample::pod("web");
        let later = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            writer.apply(&sample::world(&["10.0.0.1 other n1", "10.0.0.2 web n1"]));
        };
        let (found, ()) = tokio::join!(world.local(&pod, Duration::from_secs(5)), later);
        assert_eq!(found.map(|w| w.name.to_string()).as_deref(), Some("web"));
    }

    #[test]
    fn another_pod_of_an_account_is_expected_only_while_the_world_names_one_on_our_node() {
        let (world, mut writer) = empty("n1".into());
        let mut second = sample::workload("10.0.0.3 web-2 n1");
        second.service_account = "web".parse().unwrap();
        let identity = second.identity();
        let elsewhere = Workload { node: "n2".into(), ..second.clone() };
        for (here, expected) in [(None, false), (Some(elsewhere), false), (Some(second), true)] {
            writer.apply(&sample::world(&["10.0.0.2 web n1"]));
            let change = here.map(|w| ambit_model::delta::Change::Workload(Arc::new(w)));
            writer.apply(&change.into_iter().collect());
            assert_eq!(world.expects_another(&identity, &sample::pod("web")), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_a_pod_is_bounded_and_other_nodes_pods_do_not_count() {
        let (world, mut writer) = empty("n1".into());
        writer.apply(&sample::world(&["10.0.0.2 web n2"]));
        assert_eq!(world.local(&sample::pod("web"), Duration::from_secs(5)).await, None);
    }
}
