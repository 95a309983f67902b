//! What is shown of the mesh and told of it: dashboards, alerts, and the page of metrics.
//! Owns reading them. Whether a question has an answer is tried in a mesh, by a story.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// A question to Prometheus, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// File and panel, or alert.
    pub at: String,
    /// What is asked.
    pub expr: String,
}

/// Words of the query language that look like names of metrics.
const WORDS: [&str; 5] = ["by", "or", "and", "unless", "without"];

/// The repository's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder with alerts.
#[must_use]
pub fn alerts() -> PathBuf {
    root().join("deploy/alerts")
}

/// The page about metrics.
pub fn page() -> Result<String> {
    let path = root().join("docs/metrics.md");
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The scrape configuration that the page shows.
pub fn scraping() -> Result<String> {
    let page = page()?;
    let block = page.split_once("```yaml\n").and_then(|(_, rest)| rest.split_once("```"));
    block.map(|(block, _)| block.to_owned()).context("docs/metrics.md shows no configuration")
}

/// The heading of the waypoints' own metrics on the page.
const WAYPOINTS: &str = "### Waypoints";

/// Metrics that the page lists; a histogram by what is scraped of it.
pub fn listed() -> Result<BTreeSet<String>> {
    names(page()?.lines())
}

/// Those that waypoints have.
pub fn of_waypoints() -> Result<BTreeSet<String>> {
    let page = page()?;
    let mut rest = page.lines().skip_while(|it| !it.starts_with(WAYPOINTS));
    let heading = rest.next();
    names(heading.into_iter().chain(rest.take_while(|it| !it.starts_with('#'))))
}

/// Those that nobody but waypoints has.
pub fn of_waypoints_alone() -> Result<BTreeSet<String>> {
    let page = page()?;
    let (before, rest) = page.split_once(WAYPOINTS).context("docs/metrics.md says nothing of waypoints")?;
    let after = rest.split_once("\n###").map_or("", |(_, after)| after);
    let others = names(before.lines().chain(after.lines()))?;
    Ok(of_waypoints()?.difference(&others).cloned().collect())
}

fn names<'a>(lines: impl Iterator<Item = &'a str>) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for line in lines {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (Some(name), Some(kind)) = (cells.next(), cells.next()) else { continue };
        let Some(name) = name.strip_prefix('`').and_then(|it| it.strip_suffix('`')) else { continue };
        match kind {
            "c" | "g" => drop(names.insert(name.to_owned())),
            "h" => names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}"))),
            _ => {}
        }
    }
    ensure!(!names.is_empty(), "docs/metrics.md lists no metrics");
    Ok(names)
}

/// What every panel and every variable of every dashboard asks.
pub fn dashboards() -> Result<Vec<Question>> {
    let mut questions = Vec::new();
    let mut files: Vec<PathBuf> =
        fs::read_dir(root().join("deploy/dashboards"))?.map(|it| Ok(it?.path())).collect::<Result<_>>()?;
    files.sort();
    for path in files {
        let file = path.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
        let board: Value = serde_json::from_slice(&fs::read(&path)?).with_context(|| file.clone())?;
        for panel in board["panels"].as_array().into_iter().flatten() {
            let title = panel["title"].as_str().unwrap_or_default();
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expr =
                    target["expr"].as_str().with_context(|| format!("{file}: {title} asks nothing"))?;
                questions.push(Question { at: format!("{file}: {title}"), expr: without_variables(expr) });
            }
        }
        for variable in board["templating"]["list"].as_array().into_iter().flatten() {
            let Some(query) = variable["query"]["query"].as_str() else { continue };
            let inside = query.strip_prefix("label_values(").and_then(|it| it.rsplit_once(','));
            let (series, label) = inside.with_context(|| format!("{file}: {query}"))?;
            let label = label.trim().trim_end_matches(')');
            let expr = format!("count by ({label}) ({series})");
            questions.push(Question { at: format!("{file}: the variable {}", variable["name"]), expr });
        }
    }
    Ok(questions)
}

/// As Grafana fills it in when everything is chosen.
fn without_variables(expr: &str) -> String {
    let filled = expr.replace("$__rate_interval", "1m").replace("$__range", "5m");
    ["$namespace", "$instance"].iter().fold(filled, |expr, name| expr.replace(name, ".*"))
}

/// The names of metrics in a question: what is no label, no function, no word.
#[must_use]
pub fn metrics(expr: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // Labels stand in braces, or in parentheses behind one of the words.
    let mut rest = expr.to_owned();
    for (open, close) in [("{", '}'), ("[", ']'), ("by (", ')'), ("without (", ')')] {
        while let Some(from) = rest.find(open) {
            let Some(length) = rest[from..].find(close) else { break };
            // What stands there is gone; the word before it parts what is around it.
            rest.replace_range(from..=from + length, if open.len() > 1 { " " } else { "" });
        }
    }
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut at = 0;
    while let Some(from) = rest[at..].find(letter).map(|from| from + at) {
        let to = rest[from..].find(|c| !letter(c)).map_or(rest.len(), |to| to + from);
        let word = &rest[from..to];
        let is_function = rest[to..].trim_start().starts_with('(');
        if !is_function && !WORDS.contains(&word) && !word.starts_with(|c: char| c.is_ascii_digit()) {
            names.insert(word.to_owned());
        }
        at = to;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_told_from_labels_functions_words_and_numbers() {
        let expr =
            "sum by (a_label, le) (rate(x_total{b=\"c\",d!~\"e\"}[1m])) / min(y_z) < 30 * 86400 or vector(0)";
        assert_eq!(metrics(expr), BTreeSet::from(["x_total".to_owned(), "y_z".to_owned()]));
        assert_eq!(metrics("absent(pilot_info)"), BTreeSet::from(["pilot_info".to_owned()]));
    }

    /// What a story would find out too, for those who run no cluster.
    #[test]
    fn what_programs_register_is_on_the_page() {
        let (listed, mut seen) = (listed().unwrap(), 0);
        for file in [
            "ztunnel/src/metrics.rs",
            "ztunnel/src/dns/counted.rs",
            "istiod-lite/src/metrics.rs",
            "cni/src/metrics.rs",
        ] {
            for name in registered(file) {
                let scraped = scraped(&name);
                assert!(scraped.iter().any(|it| listed.contains(it)), "{file}: {name} is not on the page");
                seen += 1;
            }
        }
        assert!(seen > 35, "{seen} metrics were found");
    }

    /// No cluster of the stories has everything that waypoints count.
    #[test]
    fn what_waypoints_register_is_on_the_page_and_nothing_else() {
        let mut listed = of_waypoints().unwrap();
        for name in registered("waypoint/src/metrics.rs") {
            let scraped = scraped(&name);
            let parts = ["bucket", "sum", "count"].map(|part| format!("{name}_{part}"));
            let found = scraped.iter().chain(&parts).filter(|it| listed.remove(*it)).count();
            assert!(found > 0, "{name} is not among the waypoints' metrics on the page");
        }
        assert!(listed.is_empty(), "on the page, and no waypoint registers it: {listed:?}");
        assert!(of_waypoints_alone().unwrap().contains("ambit_waypoint_tunnels"));
        assert!(!of_waypoints_alone().unwrap().contains("istio_build"), "ztunnel has it, too");
    }

    /// The names that a file of a program registers.
    fn registered(file: &str) -> Vec<String> {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let calls = text.split("register(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
        let names: Vec<String> = calls.map(|rest| rest.split('"').next().unwrap().to_owned()).collect();
        assert!(!names.is_empty(), "{file} registers nothing");
        names
    }

    /// What may be scraped of a name.
    fn scraped(name: &str) -> [String; 3] {
        ["", "_total", "_bucket"].map(|ending| format!("{name}{ending}"))
    }

    #[test]
    fn every_dashboard_asks_only_for_metrics_that_the_page_lists() {
        let (listed, questions) = (listed().unwrap(), dashboards().unwrap());
        assert!(questions.len() > 60, "{} questions were found", questions.len());
        for question in questions {
            let named = metrics(&question.expr);
            assert!(!named.is_empty(), "{} asks for no metric: {}", question.at, question.expr);
            assert!(!question.expr.contains('$'), "{}: {}", question.at, question.expr);
            let unknown: Vec<_> = named.difference(&listed).collect();
            assert!(unknown.is_empty(), "{}: {unknown:?} is not in docs/metrics.md", question.at);
        }
    }

    #[test]
    fn every_panel_of_a_dashboard_has_its_place_its_number_and_a_description() {
        for entry in fs::read_dir(root().join("deploy/dashboards")).unwrap() {
            let path = entry.unwrap().path();
            let board: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let (mut numbers, mut cells) = (BTreeSet::new(), BTreeSet::new());
            for panel in board["panels"].as_array().unwrap() {
                let at = format!("{}: {}", path.display(), panel["title"]);
                assert!(numbers.insert(panel["id"].as_u64().unwrap()), "{at}: its number is another's");
                let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
                for x in place("x")..place("x") + place("w") {
                    for y in place("y")..place("y") + place("h") {
                        assert!(x < 24 && cells.insert((x, y)), "{at}: lies over another, or outside");
                    }
                }
                let is_row = panel["type"] == "row";
                assert!(is_row || panel["description"].as_str().is_some_and(|it| !it.is_empty()), "{at}");
            }
        }
    }

    #[test]
    fn every_alert_names_only_metrics_of_the_page_is_on_it_and_is_put_beside_its_fault() {
        let read = |name: &str| fs::read_to_string(alerts().join(name)).unwrap();
        let rules: Value = yaml_serde::from_str(&read("ambit.rules.yaml")).unwrap();
        let tests: Value = yaml_serde::from_str(&read("ambit.tests.yaml")).unwrap();
        let (listed, page) = (listed().unwrap(), page().unwrap());
        let tried: BTreeSet<&str> =
            tests["tests"].as_array().unwrap().iter().filter_map(|it| it["name"].as_str()).collect();
        let rules = rules["groups"].as_array().unwrap().iter().flat_map(|it| it["rules"].as_array().unwrap());
        let mut seen = 0;
        for rule in rules {
            let name = rule["alert"].as_str().unwrap();
            let unknown: Vec<_> =
                metrics(rule["expr"].as_str().unwrap()).difference(&listed).cloned().collect();
            assert!(unknown.is_empty(), "{name}: {unknown:?} is not in docs/metrics.md");
            assert!(page.contains(&format!("| `{name}` |")), "{name} is not in docs/metrics.md");
            assert!(tried.contains(name), "{name} is not in ambit.tests.yaml");
            assert!(["warning", "critical"].map(Value::from).contains(&rule["labels"]["severity"]), "{name}");
            seen += 1;
        }
        assert!(seen > 15, "{seen} alerts were found");
    }
}
