//! Metrics of the operator.

use std::sync::Arc;

use gateway_core::Kind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    kind: String,
    reason: &'static str,
}

/// All metrics of the process.
#[derive(Debug)]
pub(crate) struct Telemetry {
    registry: Registry,
    reconciles: Family<KindLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
    durations: Family<KindLabels, Histogram, fn() -> Histogram>,
    written: Family<KindLabels, Counter>,
    deleted: Family<KindLabels, Counter>,
    watch_failures: Family<KindLabels, Counter>,
    /// 1 while this replica leads.
    pub(crate) leading: Gauge,
    /// How often it began to.
    pub(crate) terms: Counter,
    /// Gateways that are ready.
    pub(crate) gateways: Gauge,
    /// Entries whose resource is gone and that are not deleted without leave.
    pub(crate) withheld: Gauge,
}

impl Telemetry {
    pub(crate) fn new() -> Arc<Self> {
        let mut registry = <Registry>::with_prefix("fairway_operator");
        let telemetry = Self {
            reconciles: Family::default(),
            failures: Family::default(),
            // 1 ms to 16 s: from nothing to do to the longest call of an apiserver.
            durations: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 2.0, 15))
            }),
            written: Family::default(),
            deleted: Family::default(),
            watch_failures: Family::default(),
            leading: Gauge::default(),
            terms: Counter::default(),
            gateways: Gauge::default(),
            withheld: Gauge::default(),
            registry: Registry::default(),
        };
        let all = &telemetry;
        registry.register("reconciles", "Reconciles by kind", all.reconciles.clone());
        registry.register(
            "reconcile_failures",
            "Reconciles that have to be tried again, by kind and reason",
            all.failures.clone(),
        );
        registry.register(
            "reconcile_duration_seconds",
            "Time of a reconcile",
            all.durations.clone(),
        );
        registry.register("entries_written", "Entries written, by kind", all.written.clone());
        registry.register("entries_deleted", "Entries deleted, by kind", all.deleted.clone());
        registry.register(
            "watch_failures",
            "Lists and watches that failed, by kind of the objects",
            all.watch_failures.clone(),
        );
        registry.register("leading", "Whether this replica leads", all.leading.clone());
        registry.register("terms", "How often this replica began to lead", all.terms.clone());
        registry.register("gateways_ready", "Gateways that are ready", all.gateways.clone());
        registry.register(
            "orphans_withheld",
            "Entries without a resource that are too many to be deleted without leave",
            all.withheld.clone(),
        );
        Arc::new(Self { registry, ..telemetry })
    }

    pub(crate) fn reconciled(&self, kind: Kind, seconds: f64) {
        self.reconciles.get_or_create_owned(&labels(kind)).inc();
        self.durations.get_or_create_owned(&labels(kind)).observe(seconds);
    }

    pub(crate) fn failed(&self, kind: Kind, reason: &'static str) {
        let labels = FailureLabels { kind: kind.to_string(), reason };
        self.failures.get_or_create_owned(&labels).inc();
    }

    pub(crate) fn entry_written(&self, kind: Kind) {
        self.written.get_or_create_owned(&labels(kind)).inc();
    }

    pub(crate) fn entry_deleted(&self, kind: Kind) {
        self.deleted.get_or_create_owned(&labels(kind)).inc();
    }

    /// `kind` is one of the few that are watched.
    pub(crate) fn watch_failed(&self, kind: &str) {
        self.watch_failures.get_or_create_owned(&KindLabels { kind: kind.to_owned() }).inc();
    }

    /// As Prometheus reads it.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

fn labels(kind: Kind) -> KindLabels {
    KindLabels { kind: kind.to_string() }
}
