-- The projection of the topic `lineage`: one row for each record (see schemas/avro/*Recorded.avsc).
--
-- Never deduplicated by the engine: the loader recovers by counting rows by their Kafka coordinates, so every
-- record keeps its row. Records of one event (a repeated event_id, a higher revision) are resolved when read.
-- Columns of other kinds of record than the row's hold their defaults.
CREATE TABLE IF NOT EXISTS lineage ${on_cluster}
(
    subject UUID CODEC(ZSTD(1)),
    occurred_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    event_id UUID CODEC(NONE) COMMENT 'random: does not compress',
    activity Enum8('collect' = 1, 'share' = 2, 'transfer' = 3, 'publish' = 4, 'consent' = 5, 'erase' = 6),
    event_type LowCardinality(String) COMMENT 'collections',
    discloser LowCardinality(String) COMMENT 'disclosures: self, or a recipient id',
    recipient LowCardinality(Nullable(String)) COMMENT 'disclosures; consents: id, kind:K or *',
    recipient_kind LowCardinality(Nullable(String)) COMMENT 'as registered at occurred_at',
    recipient_effective_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)) COMMENT 'the registry entry used',
    purpose LowCardinality(Nullable(String)) COMMENT 'by which the event was judged; consents: id or *',
    given_purpose LowCardinality(Nullable(String)) COMMENT 'as the source stated it',
    data_categories Array(LowCardinality(String)) CODEC(ZSTD(1)) COMMENT 'all that were judged; consents: their own',
    given_categories Array(LowCardinality(String)) CODEC(ZSTD(1)) COMMENT 'as the source stated them',
    fields Array(LowCardinality(String)) CODEC(ZSTD(1)) COMMENT 'names of collected fields, never contents',
    region LowCardinality(Nullable(String)),
    storage_country LowCardinality(Nullable(String)),
    collected_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)),
    legal_order LowCardinality(Nullable(String)),
    consent_action Enum8('none' = 0, 'accept' = 1, 'leave' = 2, 'age' = 3, 'guardian' = 4, 'grant' = 5, 'withdraw' = 6),
    consent_version UInt64 CODEC(ZSTD(1)) COMMENT '0: none',
    consent_activity LowCardinality(Nullable(String)),
    age_band LowCardinality(Nullable(String)),
    guardian_granted Nullable(Bool),
    erasure_phase Enum8('none' = 0, 'requested' = 1, 'completed' = 2),
    request_id UUID CODEC(ZSTD(1)) COMMENT 'zero: none',
    verdict Enum8('none' = 0, 'lawful' = 1, 'violation' = 2, 'gap' = 3),
    clauses Array(LowCardinality(String)) CODEC(ZSTD(1)),
    legal_basis Enum8('none' = 0, 'explicit_consent' = 1, 'policy_acceptance' = 2, 'legal_obligation' = 3),
    findings Array(LowCardinality(String)) CODEC(ZSTD(1)),
    policy_version UInt64 CODEC(ZSTD(1)) COMMENT '0: none in force',
    sensitive Bool,
    revision UInt64 CODEC(T64, ZSTD(1)),
    judged_at DateTime64(3, 'UTC') CODEC(T64, ZSTD(1)),
    source LowCardinality(String),
    kafka_partition UInt16 CODEC(ZSTD(1)),
    kafka_offset UInt64 CODEC(T64, ZSTD(1)),
    INDEX kafka_coordinates (kafka_partition, kafka_offset) TYPE minmax GRANULARITY 64,
    -- All rows, by what questions group by: answers by recipient, by purpose and by day (docs/adr/0002-…). Part of
    -- each part, so that no crash can separate the two, and rebuilt by ALTER … DELETE.
    PROJECTION by_day
    (
        SELECT toDate(occurred_at), activity, recipient, purpose, verdict, clauses, count()
        GROUP BY toDate(occurred_at), activity, recipient, purpose, verdict, clauses
    )
)
ENGINE = ${replicated}MergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (subject, occurred_at)
SETTINGS
    index_granularity = 1024,
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window = 10000;
