//! Which waypoints there are, and whether they are there. Owns the tables.

use std::time::Instant;

use ambit_cluster::api::Client;

use super::gateway::Waypoint;
use super::{Done, LOOK_EVERY, Scope, StatusArgs, namespace, waypoints};
use crate::output::{Output, render};
use crate::table::Table;

pub(super) async fn list(client: &Client, scope: &Scope) -> Done {
    let space = (!scope.all_namespaces).then(|| namespace(client, scope.namespace.as_ref()));
    let found = waypoints(client, space.as_deref()).await?;
    if !is_nothing(&found, space.as_deref(), scope.output) {
        print!("{}", render(&found, scope.output, |found| what_there_is(found, space.is_none()).text())?);
    }
    Ok(true)
}

/// Shows them once: when all are ready, or when nobody waits any longer.
pub(super) async fn status(client: &Client, args: &StatusArgs) -> Done {
    let scope = &args.scope;
    let space = (!scope.all_namespaces).then(|| namespace(client, scope.namespace.as_ref()));
    let begun = Instant::now();
    loop {
        let mut found = waypoints(client, space.as_deref()).await?;
        if let Some(name) = &args.name {
            found.retain(|it| it.name == name.0);
        }
        let is_well = found.iter().all(Waypoint::is_ready);
        if is_well || !args.wait || begun.elapsed() >= args.waypoint_timeout {
            if !is_nothing(&found, space.as_deref(), scope.output) {
                let text = |found: &Vec<Waypoint>| how_they_are(found, space.is_none()).text();
                print!("{}", render(&found, scope.output, text)?);
            }
            return Ok(is_well);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Said to people; programs see an empty list.
fn is_nothing(found: &[Waypoint], space: Option<&str>, output: Output) -> bool {
    let is_nothing = found.is_empty() && output == Output::Text;
    match space {
        Some(space) if is_nothing => println!("no waypoints found in namespace {space}"),
        None if is_nothing => println!("no waypoints found"),
        _ => {}
    }
    is_nothing
}

fn what_there_is(found: &[Waypoint], with_namespace: bool) -> Table {
    let columns = ["NAMESPACE", "NAME", "REVISION", "TRAFFIC TYPE", "PROGRAMMED", "FOR ACCOUNT"];
    rows(&columns, with_namespace, found, |it| {
        let (name, account) = (it.name.clone(), it.service_account.clone().unwrap_or_default());
        [name, it.revision.clone(), it.traffic_type.clone(), it.programmed.clone(), account]
    })
}

fn how_they_are(found: &[Waypoint], with_namespace: bool) -> Table {
    let columns = ["NAMESPACE", "NAME", "STATUS", "TYPE", "REASON", "MESSAGE"];
    rows(&columns, with_namespace, found, |it| {
        let said = it.verdict();
        [it.name.clone(), said.status, said.kind, said.reason, said.message]
    })
}

/// The first column, their namespace, is there where they may be of several.
fn rows(
    columns: &[&str; 6],
    with_namespace: bool,
    found: &[Waypoint],
    cells: impl Fn(&Waypoint) -> [String; 5],
) -> Table {
    let [_, without @ ..] = columns;
    let mut table = Table::new(if with_namespace { columns } else { without });
    for it in found {
        let [a, b, c, d, e] = cells(it);
        if with_namespace {
            table.row([it.namespace.clone(), a, b, c, d, e]);
        } else {
            table.row([a, b, c, d, e]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tables_have_the_columns_that_people_know_and_a_namespace_where_there_are_several() {
        let object = json!({"metadata": {"namespace": "shop", "name": "w"}, "spec": {"gatewayClassName": "istio-waypoint"},
            "status": {"conditions": [{"type": "Programmed", "status": "False", "reason": "Why", "message": "so it is"}]}});
        let found = [Waypoint::of(&object, &[]).unwrap()];
        assert_eq!(
            what_there_is(&found, false).text(),
            "NAME   REVISION   TRAFFIC TYPE   PROGRAMMED   FOR ACCOUNT\nw      default    service        False        -\n"
        );
        assert_eq!(
            how_they_are(&found, true).text(),
            "NAMESPACE   NAME   STATUS   TYPE         REASON   MESSAGE\nshop        w      False    Programmed   Why      so it is\n"
        );
    }
}
