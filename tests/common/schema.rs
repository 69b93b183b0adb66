//! A checker of JSON against a JSON Schema (draft 2020-12): the keywords that docs/schema uses, and no others.
//!
//! Stricter than the standard: what a schema does not name must not be there, or a new field could go undocumented.

use std::fs;

use serde_json::{Map, Value};

use super::REPO;

/// Reads docs/schema/NAME.json.
#[track_caller]
pub fn schema(name: &str) -> Value {
    let path = format!("{REPO}/docs/schema/{name}.json");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Parses a document and panics unless it is as docs/schema/NAME.json says.
#[track_caller]
pub fn conforms(name: &str, text: &str) -> Value {
    let value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let faults = faults(&schema(name), &value);
    assert!(faults.is_empty(), "not as docs/schema/{name}.json says:\n{}\n{text}", faults.join("\n"));
    value
}

/// Lists where a value is not as its schema says.
pub fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check(schema, schema, value, "$", &mut faults);
    faults
}

/// Every schema within a schema, with its path.
pub fn walk<'a>(schema: &'a Value, path: &str, visit: &mut dyn FnMut(&str, &'a Map<String, Value>)) {
    let object = schema.as_object().unwrap_or_else(|| panic!("{path} is no schema"));
    visit(path, object);
    for (keyword, inner) in object {
        match keyword.as_str() {
            "properties" | "$defs" => {
                inner.as_object().unwrap().iter().for_each(|(name, inner)| walk(inner, &format!("{path}.{name}"), visit));
            }
            "items" => walk(inner, &format!("{path}[]"), visit),
            "oneOf" => inner.as_array().unwrap().iter().for_each(|inner| walk(inner, path, visit)),
            "$schema" | "title" | "description" | "type" | "required" | "const" | "enum" | "$ref" => {}
            other => panic!("{path}: this checker does not know '{other}'"),
        }
    }
}

fn check(root: &Value, schema: &Value, value: &Value, path: &str, faults: &mut Vec<String>) {
    let get = |keyword: &str| schema.get(keyword);
    let mut fault = |text: String| faults.push(format!("{path}: {text}"));
    if let Some(types) = get("type") {
        let is = |name: &Value| match name.as_str().unwrap() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_u64(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("this checker does not know the type '{other}'"),
        };
        if !types.as_array().map_or_else(|| is(types), |types| types.iter().any(is)) {
            fault(format!("{value} is not of type {types}"));
            return;
        }
    }
    if get("const").is_some_and(|wanted| wanted != value) || get("enum").is_some_and(|list| !list.as_array().unwrap().contains(value)) {
        fault(format!("{value} is not allowed"));
    }
    if let (Some(properties), Some(object)) = (get("properties"), value.as_object()) {
        let required = get("required").and_then(Value::as_array).into_iter().flatten().map(|name| name.as_str().unwrap());
        required.filter(|name| !object.contains_key(*name)).for_each(|name| fault(format!("lacks '{name}'")));
        for (name, value) in object {
            match properties.get(name) {
                Some(inner) => check(root, inner, value, &format!("{path}.{name}"), faults),
                None => faults.push(format!("{path}: '{name}' is not documented")),
            }
        }
    }
    if let (Some(inner), Some(list)) = (get("items"), value.as_array()) {
        list.iter().enumerate().for_each(|(n, value)| check(root, inner, value, &format!("{path}[{n}]"), faults));
    }
    if let Some(name) = get("$ref") {
        let name = name.as_str().unwrap().strip_prefix("#/$defs/").expect("a reference to $defs");
        check(root, &root["$defs"][name], value, path, faults);
    }
    if let Some(choices) = get("oneOf") {
        let choices: Vec<Vec<String>> =
            choices.as_array().unwrap().iter().map(|choice| self::faults_at(root, choice, value, path)).collect();
        if choices.iter().filter(|faults| faults.is_empty()).count() != 1 {
            faults.extend(choices.concat());
        }
    }
}

fn faults_at(root: &Value, schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut faults = Vec::new();
    check(root, schema, value, path, &mut faults);
    faults
}
