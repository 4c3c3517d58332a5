use super::*;

fn marks(scale: Scale) -> Vec<String> {
    scale.marks().into_iter().map(|mark| scale.label(mark)).collect()
}

#[test]
fn marks_of_a_linear_axis_are_round_and_reach_the_highest() {
    assert_eq!(marks(Scale::linear(2_063.0)), ["0", "500", "1,000", "1,500", "2,000", "2,500"]);
    assert_eq!(marks(Scale::linear(0.52)), ["0.0", "0.2", "0.4", "0.6"]);
    assert_eq!(marks(Scale::linear(5.0)), ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(marks(Scale::linear(0.11)), ["0.000", "0.025", "0.050", "0.075", "0.100", "0.125"]);
}

#[test]
fn an_axis_of_nothing_goes_to_one() {
    for nothing in [0.0, -1.0, f64::NAN] {
        assert_eq!(marks(Scale::linear(nothing)).last().map(String::as_str), Some("1.0"));
    }
}

#[test]
fn marks_of_a_time_axis_are_those_of_a_clock() {
    assert_eq!(marks(Scale::time(60.0)), ["0", "10", "20", "30", "40", "50", "60"]);
    assert_eq!(marks(Scale::time(600.0)), ["0:00", "2:00", "4:00", "6:00", "8:00", "10:00"]);
    assert_eq!(marks(Scale::time(3.0)), ["0", "1", "2", "3"]);
    assert_eq!(marks(Scale::time(7_300.0)), ["0:00", "30:00", "1:00:00", "1:30:00", "2:00:00"]);
}

#[test]
fn marks_of_a_logarithmic_axis_enclose_the_values() {
    assert_eq!(
        marks(Scale::log([1.2, 614.0].into_iter())),
        ["1", "2", "5", "10", "20", "50", "100", "200", "500", "1,000"]
    );
    assert_eq!(marks(Scale::log([0.3, 4.0].into_iter())), ["0.2", "0.5", "1", "2", "5"]);
    assert_eq!(marks(Scale::log([0.01, 90_000.0].into_iter())).len(), 8);
    assert_eq!(marks(Scale::log([5.0, 5.0].into_iter())), ["5", "10", "20", "50"]);
    assert_eq!(marks(Scale::log(std::iter::empty())), ["0.1", "0.2", "0.5", "1"]);
}

#[test]
fn percentiles_are_as_far_apart_as_their_nines() {
    let scale = Scale::Percentile;
    assert_eq!(marks(scale), ["50", "90", "99", "99.9", "99.99", "max"]);
    let places: Vec<f64> = scale.marks().into_iter().map(|mark| scale.place(mark)).collect();
    let gaps: Vec<f64> = places.windows(2).skip(1).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| (gap - 0.2).abs() < 1e-9), "{gaps:?}");
}

#[test]
fn one_high_value_makes_an_axis_logarithmic() {
    assert_eq!(Scale::fitting([3.0, 4.0, 5.0, 20.0].into_iter()), Scale::linear(20.0));
    assert!(matches!(Scale::fitting([3.0, 4.0, 5.0, 900.0].into_iter()), Scale::Log { .. }));
    assert_eq!(Scale::fitting([0.0, 0.0, 900.0].into_iter()), Scale::linear(900.0));
}

fn chart(heights: Vec<Option<f64>>) -> String {
    let places: Vec<f64> = (1..=heights.len()).map(|place| place as f64).collect();
    let line = Line { name: "line", style: 0, figures: "most 2".to_owned(), heights };
    let x = Scale::time(places.len() as f64);
    Chart { title: "T", unit: "u", across: "s", x, y: Scale::linear(2.0), places, lines: vec![line] }
        .figure()
        .into_string()
}

#[test]
fn a_line_is_interrupted_where_nothing_was_measured() {
    let mut heights = vec![Some(1.0); 40];
    heights[20] = None;
    let drawn = chart(heights);
    let (_, path) = drawn.split_once(" d=\"").expect("a path");
    let (path, _) = path.split_once('"').expect("its end");
    assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 37));
    assert!(!drawn.contains("<circle"), "enough points for a line");
}

#[test]
fn a_point_without_neighbours_is_seen() {
    let mut heights = vec![None; 40];
    heights[20] = Some(1.0);
    assert_eq!(chart(heights).matches("<circle").count(), 1);
    assert_eq!(chart(vec![Some(1.0); 3]).matches("<circle").count(), 3);
}

#[test]
fn the_read_out_knows_every_point() {
    let drawn = chart(vec![Some(1.0), None, Some(1_234.5)]);
    let expected = r#"{"at":["1","2","3"],"lines":[["1.00",null,"1,234"]],"x":[251.0,437.0,622.0]}"#;
    assert!(drawn.contains(&expected.replace('"', "&quot;")), "{drawn}");
}
