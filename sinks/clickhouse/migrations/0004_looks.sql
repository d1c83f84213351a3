-- Who looked at people's lineages, when, at whom and why. At whom, and why (free text, which may name the person), are
-- emptied when the person is erased; the rest is evidence and stays. In one table, because a look is stored before it is
-- answered: two would be two inserts, and twice the merges (docs/benchmarks.md).
CREATE TABLE IF NOT EXISTS looks ${on_cluster}
(
    look_id UUID CODEC(NONE),
    at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    client LowCardinality(String),
    role LowCardinality(String) COMMENT 'the role that let the client in',
    operation LowCardinality(String) COMMENT 'as in audit/api/permissions.py',
    people UInt64 CODEC(T64, ZSTD(1)) COMMENT 'how many were shown; 0: nobody, the person is not known or erased',
    subject UUID CODEC(NONE) COMMENT 'at whom; zero: at many, at nobody known, or at somebody erased since',
    reason String CODEC(ZSTD(1)) COMMENT 'of a look at one person: why; empty where subject is zero',
    subject_matter String CODEC(ZSTD(1)) COMMENT 'of a look at many people: what was asked, and why'
)
ENGINE = ${replicated}MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (at, look_id)
SETTINGS
    old_parts_lifetime = 1,
    cleanup_delay_period = 1,
    cleanup_delay_period_random_add = 1,
    max_cleanup_delay_period = 5,
    min_compressed_bytes_to_fsync_after_merge = 1;
