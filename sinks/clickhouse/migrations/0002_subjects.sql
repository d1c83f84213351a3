-- The projection of the topic `subject-state`: which subject an alias stands for, so that an auditor can look a
-- person up by user id. The zero UUID: erased. `version` is the record's offset there; the highest counts.
CREATE TABLE IF NOT EXISTS subjects ${on_cluster}
(
    alias FixedString(16) CODEC(NONE),
    subject UUID CODEC(NONE),
    version UInt64 CODEC(T64, ZSTD(1)),
    updated_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(T64, ZSTD(1))
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY alias
SETTINGS
    index_granularity = 1024,
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window = 10000;
