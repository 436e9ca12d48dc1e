//! What stands before the gateway: Ingress, HTTPRoute, Service, and who collects metrics.

use serde_json::{Value, json};

use crate::helm::{FULL, NAMESPACE, Objects};

/// What nginx must be told so that a stream arrives as it is sent and stays open.
const NGINX: [(&str, &str); 13] = [
    ("nginx.ingress.kubernetes.io/proxy-buffering", "off"),
    ("nginx.ingress.kubernetes.io/proxy-request-buffering", "off"),
    ("nginx.ingress.kubernetes.io/proxy-read-timeout", "3600"),
    ("nginx.ingress.kubernetes.io/proxy-send-timeout", "3600"),
    ("nginx.ingress.kubernetes.io/proxy-body-size", "0"),
    ("nginx.ingress.kubernetes.io/proxy-next-upstream", "error timeout"),
    ("nginx.ingress.kubernetes.io/proxy-next-upstream-tries", "20"),
    ("nginx.ingress.kubernetes.io/proxy-next-upstream-timeout", "10"),
    ("nginx.ingress.kubernetes.io/proxy-connect-timeout", "2"),
    ("nginx.org/proxy-buffering", "False"),
    ("nginx.org/proxy-read-timeout", "3600s"),
    ("nginx.org/proxy-send-timeout", "3600s"),
    ("nginx.org/client-max-body-size", "0"),
];

#[test]
fn nothing_stands_before_the_gateway_by_default() {
    let objects = Objects::render("");

    for kind in ["Ingress", "HTTPRoute", "ServiceMonitor"] {
        assert_eq!(objects.of_kind(kind).count(), 0, "{kind}");
    }
    assert_eq!(objects.get("Service", "fairway-gateway")["spec"]["type"], "ClusterIP");
}

#[test]
fn annotations_are_those_of_the_controller() {
    let nginx: Value = NGINX.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let table = [
        ("className: nginx", nginx.clone()),
        ("className: internal-nginx", nginx.clone()),
        ("{className: public, controller: nginx}", nginx),
        ("className: traefik", json!(null)),
        ("className: public", json!(null)),
        (
            "{className: traefik, tls: {enabled: true}}",
            json!({"traefik.ingress.kubernetes.io/router.tls": "true"}),
        ),
        ("{className: nginx-traefik, controller: traefik, annotations: {a: b}}", json!({"a": "b"})),
    ];

    for (values, expected) in table {
        let ingress = ingress(values);

        assert_eq!(ingress["metadata"]["annotations"], expected, "{values}");
    }
}

#[test]
fn own_annotations_go_first() {
    let key = "nginx.ingress.kubernetes.io/proxy-read-timeout";

    let ingress = ingress(&format!("{{className: nginx, annotations: {{{key}: '60'}}}}"));

    assert_eq!(ingress["metadata"]["annotations"][key], "60");
    assert_eq!(ingress["metadata"]["annotations"].as_object().unwrap().len(), NGINX.len());
}

#[test]
fn traefik_tries_again_where_it_is_asked_to() {
    let made = "fairway-system-fairway-gateway-retry@kubernetescrd";
    for (retries, middleware, makes) in [
        (json!({}), None, false),
        (json!({"traefik": {"middleware": "retry@file"}}), Some("retry@file"), false),
        (json!({"attempts": 5, "traefik": {"create": true}}), Some(made), true),
    ] {
        let values = json!({"enabled": true, "className": "traefik", "retries": retries});
        let objects = Objects::render(&json!({"ingress": values}).to_string());

        let ingress = objects.get("Ingress", "fairway-gateway");
        let named =
            &ingress["metadata"]["annotations"]["traefik.ingress.kubernetes.io/router.middlewares"];
        assert_eq!(named.as_str(), middleware, "{values}");
        let middlewares: Vec<&Value> = objects.of_kind("Middleware").collect();
        assert_eq!(middlewares.len(), usize::from(makes), "{values}");
        if let [middleware] = *middlewares {
            assert_eq!(middleware["metadata"]["namespace"], NAMESPACE);
            assert_eq!(middleware["metadata"]["name"], "fairway-gateway-retry");
            let retry = json!({"retry": {"attempts": 5, "initialInterval": "100ms"}});
            assert_eq!(middleware["spec"], retry);
        }
    }
}

#[test]
fn nginx_tries_nothing_again_where_it_is_not_to() {
    let ingress = ingress("{className: nginx, retries: {attempts: 1}}");

    let annotations = ingress["metadata"]["annotations"].as_object().unwrap();
    let about = annotations.iter().filter(|(key, _)| key.contains("next-upstream"));
    let about: Vec<_> = about.collect();
    assert_eq!(about.len(), 1, "{about:?}");
    assert_eq!(annotations["nginx.ingress.kubernetes.io/proxy-next-upstream"], "off");
}

#[test]
fn an_ingress_leads_to_the_gateway() {
    let path = json!({
        "path": "/",
        "pathType": "Prefix",
        "backend": {"service": {"name": "fairway-gateway", "port": {"name": "http"}}},
    });

    assert_eq!(ingress("{}")["spec"], json!({"rules": [{"http": {"paths": [path]}}]}));
    assert_eq!(
        ingress("{className: public, host: mcp.example.com, tls: {enabled: true}}")["spec"],
        json!({
            "ingressClassName": "public",
            "rules": [{"host": "mcp.example.com", "http": {"paths": [path]}}],
            "tls": [{"secretName": "fairway-gateway-tls", "hosts": ["mcp.example.com"]}],
        }),
    );
}

#[test]
fn a_route_leads_to_the_gateway_without_timeouts() {
    let objects = Objects::render(FULL);

    assert_eq!(
        objects.get("HTTPRoute", "fairway-gateway")["spec"],
        json!({
            "parentRefs": [{"name": "public", "namespace": "gateways"}],
            "hostnames": ["mcp.example.com"],
            "rules": [{
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "timeouts": {"request": "0s", "backendRequest": "0s"},
                "backendRefs": [{"name": "fairway-gateway", "port": 80}],
            }],
        }),
    );
}

#[test]
fn the_service_has_only_the_port_for_clients() {
    for values in ["", FULL] {
        let objects = Objects::render(values);

        assert_eq!(
            objects.get("Service", "fairway-gateway")["spec"]["ports"],
            json!([{"name": "http", "port": 80, "targetPort": "http", "appProtocol": "http"}]),
        );
        // Nothing else can be reached from outside the cluster.
        for service in objects.of_kind("Service") {
            if service["metadata"]["name"] != "fairway-gateway" {
                assert_eq!(service["spec"]["clusterIP"], "None");
                assert_eq!(service["spec"].get("type"), None);
            }
        }
    }
}

#[test]
fn metrics_are_collected_with_the_token() {
    let objects = Objects::render(FULL);
    let monitor = objects.get("ServiceMonitor", "fairway");
    let service = objects.get("Service", "fairway-metrics");

    let endpoint = &monitor["spec"]["endpoints"][0];
    assert_eq!(endpoint["port"], service["spec"]["ports"][0]["name"]);
    assert_eq!(endpoint["path"], "/metrics");
    assert_eq!(
        endpoint["authorization"]["credentials"],
        json!({"name": "fairway-metrics-token", "key": "token"}),
    );
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    assert_eq!(monitor["metadata"]["namespace"], NAMESPACE);
    let selector = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    for (key, value) in selector {
        assert_eq!(service["metadata"]["labels"][key], *value, "{key}");
    }
}

/// An Ingress with these values besides `enabled`.
fn ingress(values: &str) -> Value {
    let mut values: Value = serde_saphyr::from_str(values).unwrap();
    values["enabled"] = json!(true);
    let objects = Objects::render(&json!({"ingress": values}).to_string());
    objects.get("Ingress", "fairway-gateway").clone()
}
