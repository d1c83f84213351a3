-- Who looked at people's lineages, when, and by which operation. Nothing here names a person: these rows are evidence
-- and stay.
CREATE TABLE IF NOT EXISTS looks ${on_cluster}
(
    look_id UUID CODEC(NONE),
    at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    client LowCardinality(String),
    role LowCardinality(String) COMMENT 'the role that let the client in',
    operation LowCardinality(String) COMMENT 'as in audit/api/permissions.py',
    people UInt64 CODEC(T64, ZSTD(1)) COMMENT 'how many were shown; 0: nobody, the person is not known or erased',
    subject_matter String CODEC(ZSTD(1)) COMMENT 'of a look at many people: what was asked, and why'
)
ENGINE = ${replicated}MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (at, look_id);

-- At whom, and why: free text, which may name the person. Apart from the rest, because these rows go when the person is
-- erased.
CREATE TABLE IF NOT EXISTS looked_at ${on_cluster}
(
    subject UUID CODEC(NONE),
    look_id UUID CODEC(NONE),
    reason String CODEC(ZSTD(1))
)
ENGINE = ${replicated}MergeTree
ORDER BY (subject, look_id)
SETTINGS
    index_granularity = 1024,
    old_parts_lifetime = 1,
    cleanup_delay_period = 1,
    cleanup_delay_period_random_add = 1,
    max_cleanup_delay_period = 5,
    min_compressed_bytes_to_fsync_after_merge = 1;
