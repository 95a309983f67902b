//! `ambit why --cluster`: what the ztunnels at both ends of a connection would do with it, and the waypoint in between
//! with a request. Owns which ones are asked; the explanation is `why`'s.

use std::error::Error;

use ambit_cluster::api::ApiError;
use ambit_cluster::kinds::waypoint::PART_OF;
use serde_json::Value;

use super::aim::Aim;
use super::describe::witness;
use super::dump::text;
use super::parts::{ADMIN_PORT, fetch, parts};
use super::{Which, block_on};
use crate::why::{
    DUMP, Explanation, RESOURCES, RequestExplanation, Told, Wanted, explain, explain_request, waypoint_of,
};

/// Explains a connection: its way by what the ztunnel of its source knows, the verdict by what the other knows.
pub(crate) fn why(which: &Which, src: &str, dst: &str) -> Result<Explanation, Box<dyn Error>> {
    block_on(async {
        let client = which.client().await?;
        let system = which.istio_namespace.as_str();
        let (namespace, name) = Aim::read(src, None, client.namespace()).pod(&client).await?;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let pod: Value = match client.read(&path).await {
            Err(ApiError::NotFound { .. }) => {
                return Err(format!("there is no pod {namespace}/{name}; give NAMESPACE/NAME").into());
            }
            other => other?,
        };
        let node = pod.get("spec").map(|spec| text(spec, "nodeName")).unwrap_or_default();
        let near = witness(&client, system, node).await?;
        let source = format!("{namespace}/{name}");
        let explained = explain(&near.world, &source, dst)?;
        let Some(far) = explained.far_node().filter(|far| *far != node) else { return Ok(explained) };
        match witness(&client, system, far).await {
            // Where the two differ, it is as the one knows it that decides.
            Ok(other) => Ok(explain(&near.world.with(&other.known), &source, dst)?),
            Err(error) => {
                eprintln!(
                    "ambit: the verdict is by what {} knows, since {far} is not asked: {error}",
                    near.part.name
                );
                Ok(explained)
            }
        }
    })
}

/// Explains a request: its connection as above, and what becomes of it by what the waypoint knows that it goes to.
pub(crate) fn why_request(
    which: &Which,
    from: &str,
    wanted: &Wanted,
) -> Result<RequestExplanation, Box<dyn Error>> {
    let connection = why(which, from, &wanted.dialled())?;
    let Some((namespace, name)) = waypoint_of(&connection).and_then(|pod| pod.split_once('/')) else {
        return Ok(explain_request(wanted, connection, None)?);
    };
    let told = block_on(async {
        let client = which.client().await?;
        let all = parts(&client, namespace, PART_OF).await?;
        let part = all.iter().find(|it| it.name == name);
        let part = part.ok_or_else(|| format!("waypoint {namespace}/{name} is gone; ask again"))?;
        Ok(Told {
            dump: Box::pin(fetch(&client, part, ADMIN_PORT, DUMP)).await?,
            resources: Box::pin(fetch(&client, part, ADMIN_PORT, RESOURCES)).await?,
        })
    })?;
    Ok(explain_request(wanted, connection, Some(&told))?)
}
