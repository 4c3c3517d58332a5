//! The Grafana dashboard, made from the catalogue of metrics. No metric is forgotten: each is in a panel.

use metrics::Unit;
use serde_json::{Value, json};
use settled_pipeline::metrics::{ALL, Description, Kind};

use super::{read, root};

const PATH: &str = "dashboards/settled.json";

/// The rows of the dashboard, and the beginnings of the names of their metrics. The first row that fits has a metric.
const ROWS: [(&str, &[&str]); 9] = [
    (
        "Is it well?",
        &[
            "settled_dependency_up",
            "settled_paused",
            "settled_maintenance",
            "settled_broker_blocked",
            "settled_reflex",
            "settled_unprocessable",
            "settled_clock",
            "settled_database_clock",
            "settled_disk",
            "settled_config",
            "settled_build",
        ],
    ),
    (
        "Payments",
        &[
            "settled_outcomes",
            "settled_publish_to",
            "settled_receive_to",
            "settled_tasks_received",
            "settled_publisher_outcomes",
            "settled_forbidden",
            "settled_shortfalls",
        ],
    ),
    ("Stages: queue and lanes", &["settled_queue", "settled_lane", "settled_tasks", "settled_ack"]),
    (
        "Transactions",
        &["settled_transaction", "settled_batch", "settled_retries", "settled_bisections", "settled_unknown_commits"],
    ),
    ("Stages: scheduler", &["settled_scheduled", "settled_parked", "settled_hold", "settled_held"]),
    ("Stages: outbox and events", &["settled_outbox", "settled_event", "settled_stream"]),
    ("Stages: dead letters", &["settled_dead_letter", "settled_rows_removed"]),
    ("Connections", &["settled_reconnects"]),
    ("Process", &["process_", "settled_spans"]),
];

/// Panels in a line of the dashboard, which is 24 units wide.
const IN_A_LINE: usize = 3;
const HEIGHT: usize = 7;

fn row_of(name: &str) -> usize {
    let fits = |(_, beginnings): &(&str, &[&str])| beginnings.iter().any(|begin| name.starts_with(begin));
    ROWS.iter().position(fits).unwrap_or_else(|| panic!("{name} belongs in a row of the dashboard: add it to ROWS"))
}

/// What is drawn of a metric: the expression of each line and its legend.
fn targets(metric: &Description) -> Vec<(String, String)> {
    let Description { name, kind, labels, .. } = metric;
    let of = format!("{name}{{job=\"settled\", instance=~\"$instance\"}}");
    let legend = labels.iter().map(|label| format!("{{{{{label}}}}}")).collect::<Vec<_>>().join(" ");
    match kind {
        Kind::Histogram => [0.5, 0.99]
            .map(|quantile| {
                let buckets = of.replacen('{', "_bucket{", 1);
                let rate = format!("sum by (le) (rate({buckets}[$__rate_interval]))");
                (format!("histogram_quantile({quantile}, {rate})"), format!("p{}", quantile * 100.0))
            })
            .into(),
        Kind::Counter => {
            let by = if labels.is_empty() { String::new() } else { format!(" by ({})", labels.join(", ")) };
            vec![(
                format!("sum{by} (rate({of}[$__rate_interval]))"),
                if labels.is_empty() { "all".to_owned() } else { legend },
            )]
        }
        // All daemons export what is in the database, so a sum would count it several times.
        Kind::Gauge => {
            let by: Vec<&str> = ["instance"].into_iter().chain(labels.iter().copied()).collect();
            vec![(format!("max by ({}) ({of})", by.join(", ")), format!("{{{{instance}}}} {legend}").trim().to_owned())]
        }
    }
}

fn unit(metric: &Description) -> &'static str {
    match (metric.unit, metric.kind) {
        _ if metric.name.ends_with("_timestamp_seconds") || metric.name == "process_start_time_seconds" => {
            "dateTimeFromNow"
        }
        _ if metric.name.ends_with("_ratio") => "percentunit",
        (Unit::Seconds, _) => "s",
        (Unit::Bytes, _) => "bytes",
        (_, Kind::Counter) => "ops",
        _ => "short",
    }
}

fn panel(id: usize, place: usize, top: usize, metric: &Description) -> Value {
    let drawn = targets(metric).into_iter().zip('A'..);
    // Unix times are in milliseconds there.
    let scaled = |expr: String| if unit(metric) == "dateTimeFromNow" { format!("1000 * {expr}") } else { expr };
    let targets: Vec<Value> = drawn
        .map(|((expr, legend), id)| json!({"refId": id.to_string(), "expr": scaled(expr), "legendFormat": legend}))
        .collect();
    let width = 24 / IN_A_LINE;
    json!({
        "id": id,
        "type": "timeseries",
        "title": metric.name,
        "description": metric.help,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"h": HEIGHT, "w": width, "x": place % IN_A_LINE * width, "y": top + place / IN_A_LINE * HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit(metric), "min": if metric.kind == Kind::Gauge { Value::Null } else { json!(0) }}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": targets,
    })
}

fn variable(name: &str, kind: &str, query: &str, rest: Value) -> Value {
    let mut variable = json!({"name": name, "label": name, "type": kind, "query": query});
    variable.as_object_mut().expect("an object").extend(rest.as_object().expect("an object").clone());
    variable
}

fn dashboard() -> Value {
    let (mut panels, mut top, mut id) = (Vec::new(), 0, 0);
    let mut next = || {
        id += 1;
        id
    };
    for (row, (title, _)) in ROWS.iter().enumerate() {
        let place = json!({"h": 1, "w": 24, "x": 0, "y": top});
        panels.push(
            json!({"id": next(), "type": "row", "title": title, "collapsed": false, "gridPos": place, "panels": []}),
        );
        top += 1;
        let metrics: Vec<&Description> = ALL.iter().filter(|metric| row_of(metric.name) == row).collect();
        assert!(!metrics.is_empty(), "the row {title:?} has no metric");
        panels.extend(metrics.iter().enumerate().map(|(place, metric)| panel(next(), place, top, metric)));
        top += metrics.len().div_ceil(IN_A_LINE) * HEIGHT;
    }
    let source = variable("datasource", "datasource", "prometheus", json!({}));
    let all = json!({"datasource": {"type": "prometheus", "uid": "${datasource}"}, "refresh": 2, "multi": true,
                     "includeAll": true, "allValue": ".*", "current": {"text": "All", "value": "$__all"}});
    let instance = variable("instance", "query", "label_values(settled_build_info{job=\"settled\"}, instance)", all);
    json!({
        "uid": "settled",
        "title": "settled",
        "tags": ["settled"],
        "schemaVersion": 39,
        "editable": true,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source, instance]},
        "annotations": {"list": [{
            "name": "alerts", "enable": true, "iconColor": "red",
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "expr": "ALERTS{job=\"settled\", alertstate=\"firing\", severity=~\"P0|P1\"}",
            "titleFormat": "{{alertname}}", "textFormat": "{{severity}} {{instance}}",
        }]},
        "panels": panels,
    })
}

#[test]
fn the_dashboard_is_current_and_shows_every_metric() {
    let text = format!("{}\n", serde_json::to_string_pretty(&dashboard()).expect("JSON"));
    for metric in ALL {
        assert!(text.contains(metric.name), "{} is in no panel", metric.name);
    }
    if std::env::var_os("SETTLED_UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(root().join("dashboards")).expect("a directory");
        std::fs::write(root().join(PATH), &text).expect("written");
    } else {
        assert!(text == read(PATH), "{PATH} is not current: run this test with SETTLED_UPDATE_DOCS=1");
    }
}
