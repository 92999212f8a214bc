//! The golden vectors of `tests/vectors`: written by the oracle, read here and by the Python tests.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::fixed;
use crate::{Ids, Matrix, Model, Params, Projection, Ratio, Threads};

pub(crate) fn load(name: &str) -> Value {
    let path = format!("{}/../../tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

/// A float as Python's `float.hex` writes it.
fn float(text: &str) -> f64 {
    let (sign, digits) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let (mantissa, exponent) = digits.strip_prefix("0x").unwrap().split_once('p').unwrap();
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.parse::<i32>().unwrap() - 4 * i32::try_from(fraction.len()).unwrap();
    #[expect(clippy::cast_precision_loss, reason = "at most 53 bits")]
    let value = u64::from_str_radix(&format!("{whole}{fraction}"), 16).unwrap() as f64;
    // In two factors, so that the smallest numbers are not lost on the way.
    sign * value * 2_f64.powi(exponent / 2) * 2_f64.powi(exponent - exponent / 2)
}

fn floats(rows: &Value) -> Vec<f64> {
    rows.as_array().unwrap().iter().flat_map(read::<Vec<String>>).map(|text| float(&text)).collect()
}

fn params(value: &Value) -> Params {
    let ratio = |name: &str| {
        let [num, den] = read(&value[name]);
        Ratio { num, den }
    };
    let projection = match &value["projection"] {
        Value::Null => Projection::None,
        Value::Number(m) => Projection::Signs(usize::try_from(m.as_u64().unwrap()).unwrap()),
        rows => Projection::Matrix { rows: rows.as_array().unwrap().len(), entries: floats(rows) },
    };
    Params {
        n_clusters: read(&value["n_clusters"]),
        epsilon: ratio("epsilon"),
        gamma: ratio("gamma"),
        max_iter: read(&value["max_iter"]),
        panel: read(&value["panel"]),
        projection,
        center: value.get("center").map(|row| floats(&Value::Array(vec![row.clone()]))),
        max_norm: read::<Option<String>>(&value["max_norm"]).map(|text| float(&text)),
        seed: read(&value["seed"]),
    }
}

fn ids(case: &Value) -> Ids {
    match case["id_kind"].as_str() {
        Some("int") => Ids::Int(read(&case["ids"])),
        _ => Ids::Str(read(&case["ids"])),
    }
}

#[test]
fn rows_are_those_of_the_oracle() {
    for case in load("rows").as_array().unwrap() {
        let row: Vec<f64> = read::<Vec<String>>(&case["row"]).iter().map(|text| float(text)).collect();
        let mut mantissa = vec![0; row.len()];
        let exponent = fixed::quantise(&row, &mut mantissa).unwrap();
        assert_eq!(exponent, read::<i16>(&case["exponent"]), "{row:?}");
        assert_eq!(mantissa, read::<Vec<i16>>(&case["mantissa"]), "{row:?}");
    }
}

#[test]
fn models_are_those_of_the_oracle() {
    for case in load("models").as_array().unwrap() {
        for threads in [1, 2, 8] {
            check_model(case, Threads::new(Some(threads)));
        }
    }
}

fn check_model(case: &Value, threads: Threads) {
    let name = &case["name"];
    let width = read(&case["n_features"]);
    let params = params(&case["params"]).check(width).unwrap();
    let model = Model::fit(params, ids(case), Matrix::F64(&floats(&case["rows"])), threads).unwrap();
    let expected = &case["expected"];

    assert_eq!(i64::from(model.held.rows.exponent()), expected["exponent"].as_i64().unwrap(), "{name}: exponent");
    let order = model.held.ids.ascending();
    let kept =
        order.iter().map(|&slot| (model.held.rows.own_exponent(slot as usize), model.held.rows.kept(slot as usize)));
    let (exponents, mantissas): (Vec<i16>, Vec<Vec<i16>>) = kept.map(|(own, row)| (own, row.to_vec())).unzip();
    // With max_norm what is kept of a row is the aligned one.
    if case["params"]["max_norm"].is_null() {
        assert_eq!(exponents, read::<Vec<i16>>(&expected["exponents"]), "{name}: exponents");
        assert_eq!(mantissas, read::<Vec<Vec<i16>>>(&expected["mantissas"]), "{name}: mantissas");
    } else {
        assert_eq!(mantissas, read::<Vec<Vec<i16>>>(&expected["aligned"]), "{name}: aligned rows");
    }

    let as_value = |id: crate::IdRef<'_>| match id {
        crate::IdRef::Int(id) => Value::from(id),
        crate::IdRef::Str(id) => Value::from(id),
    };
    assert_eq!(model.seeds().into_iter().map(as_value).collect::<Value>(), expected["seeds"], "{name}: seeds");
    let on_panel: Value =
        order.iter().filter(|&&slot| model.is_on_panel(slot)).map(|&slot| as_value(model.held.ids.get(slot))).collect();
    assert_eq!(on_panel, expected["panel"], "{name}: panel");
    let steps = expected["steps"].as_array().unwrap();
    let of_panel = model.fit.steps.iter().map(|step| (&step.summary, &step.labels[..]));
    let all: Vec<_> =
        of_panel.chain(model.held.last.summary().map(|summary| (summary, model.held.last.labels()))).collect();
    let expected_steps: Vec<_> = steps.iter().chain(Some(&expected["result"]).filter(|step| !step.is_null())).collect();
    assert_eq!(all.len(), expected_steps.len(), "{name}: number of steps");
    for (t, ((summary, labels), expected)) in all.into_iter().zip(expected_steps).enumerate() {
        let labels: Vec<u16> = order.iter().filter_map(|&slot| labels.get(slot as usize)).copied().collect();
        assert_eq!(labels, read::<Vec<u16>>(&expected["labels"]), "{name}: labels of step {t}");
        let centres: Vec<Vec<i16>> = read(&expected["centres"]);
        let found = &summary.centres;
        let found: Vec<Vec<i16>> = (0..found.len()).map(|j| found.centre(j).to_vec()).collect();
        assert_eq!(found, centres, "{name}: centres of step {t}");
        assert_eq!(summary.counts, read::<Vec<i64>>(&expected["counts"]), "{name}: counts of step {t}");
        assert_eq!(summary.loss, read::<i64>(&expected["loss"]), "{name}: loss of step {t}");
    }
    let exemplars = model.exemplars().into_iter().map(|id| id.map_or(Value::Null, as_value));
    assert_eq!(exemplars.collect::<Value>(), expected["exemplars"], "{name}: exemplars");
    assert_eq!(model.digest().to_string(), expected["digest"].as_str().unwrap(), "{name}: digest");
    let mut file = Vec::new();
    model.encode(&mut file).unwrap();
    assert_eq!(file.len(), model.encoded_len());
    let restored = Model::decode(&file, threads).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(restored.digest(), model.digest(), "{name}: restored");
    assert_eq!(restored.exemplars(), model.exemplars(), "{name}: restored exemplars");
}
