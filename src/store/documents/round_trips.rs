//! Any document comes back from XML and from JSON as it was.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{ConfigDocument, ConfigKind};
use crate::base::xml;

fn text() -> impl Strategy<Value = String> {
    "(\\PC|[\\r\\n\\t<>&\"' ]){0,8}".prop_filter("XML", |text| xml::can_hold(text))
}

fn object(fields: Vec<(&str, Option<Value>)>) -> Value {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>().into()
}

fn cors() -> impl Strategy<Value = Value> {
    let methods = vec(prop_oneof!["GET", "PUT", "POST", "DELETE", "HEAD"], 1..4);
    let wildcards = || vec("[a-z.:/]{1,9}\\*?", 1..3);
    let exposed = option::of(vec(text(), 1..3));
    let rule = (option::of(text()), option::of(wildcards()), methods, wildcards(), exposed, option::of(0..i32::MAX));
    vec(rule, 1..4).prop_map(|rules| {
        let rule = |(id, headers, methods, origins, exposed, age): (_, Option<Vec<String>>, Vec<String>, Vec<String>, _, _)| {
            object(vec![
                ("ID", Option::<String>::map(id, Into::into)),
                ("AllowedHeaders", headers.map(Into::into)),
                ("AllowedMethods", Some(methods.into())),
                ("AllowedOrigins", Some(origins.into())),
                ("ExposeHeaders", Option::<Vec<String>>::map(exposed, Into::into)),
                ("MaxAgeSeconds", Option::<i32>::map(age, Into::into)),
            ])
        };
        json!({ "CORSRules": rules.into_iter().map(rule).collect::<Vec<_>>() })
    })
}

/// Known and unknown names together.
fn lifecycle() -> impl Strategy<Value = Value> {
    let filter = prop_oneof![
        Just(json!({})),
        text().prop_map(|prefix| json!({ "Prefix": prefix })),
        (text(), 0..i64::MAX).prop_map(|(key, size)| {
            json!({"And": {"Tags": [{"Key": key, "Value": ""}, {"Key": "b", "Value": key}], "ObjectSizeGreaterThan": size}})
        }),
    ];
    let transition = (0..9, "[A-Z_]{1,9}").prop_map(|(days, class)| json!({ "Days": days, "StorageClass": class }));
    let rule = (filter, option::of(vec(transition, 1..3)), any::<bool>(), option::of(text()), vec(text(), 2..4));
    vec(rule, 1..4).prop_map(|rules| {
        let rule = |(filter, transitions, mark, one, several): (_, Option<Vec<Value>>, bool, Option<String>, Vec<String>)| {
            object(vec![
                ("Filter", Some(filter)),
                ("Status", Some("Enabled".into())),
                ("Expiration", Some(json!({ "ExpiredObjectDeleteMarker": mark }))),
                ("Transitions", transitions.map(Into::into)),
                ("Newer", one.map(|text| json!({ "@of": text, "Inner": text, "Other": "x" }))),
                ("Several", Some(several.into())),
            ])
        };
        json!({ "Rules": rules.into_iter().map(rule).collect::<Vec<_>>() })
    })
}

proptest! {
    #[test]
    fn documents_come_back_exactly(cors in cors(), lifecycle in lifecycle()) {
        for (kind, value) in [(ConfigKind::Cors, cors), (ConfigKind::Lifecycle, lifecycle)] {
            let document = ConfigDocument::parse(kind, &value.to_string()).unwrap();
            prop_assert_eq!(document.value(), &value);
            let body = document.to_body();
            prop_assert_eq!(ConfigDocument::from_body(kind, body.as_bytes()), Some(document.clone()));
            prop_assert_eq!(ConfigDocument::parse(kind, &body), Ok(document.clone()));
            prop_assert_eq!(ConfigDocument::parse(kind, &document.to_json()), Ok(document.clone()));
        }
    }

    #[test]
    fn garbage_never_panics(text in "\\PC{0,60}|[<>{}\"a:\\[\\],]{0,40}") {
        for kind in ConfigKind::ALL {
            let _ = (ConfigDocument::parse(kind, &text), ConfigDocument::from_body(kind, text.as_bytes()));
        }
    }
}
