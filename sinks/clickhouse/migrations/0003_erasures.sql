-- The projection of the topic `erasure-state`: one row for each change of an erasure request. `version` is the record's
-- offset there; the highest counts. Columns are what auditors filter and sort by; `document` is the record in JSON,
-- without alias and subject. Nothing here ties a request to a person.
CREATE TABLE IF NOT EXISTS erasure_requests ${on_cluster}
(
    request_id UUID,
    version UInt64 CODEC(T64, ZSTD(1)),
    state LowCardinality(String),
    origin LowCardinality(String),
    regulation LowCardinality(String),
    received_at DateTime64(3, 'UTC') CODEC(T64, ZSTD(1)),
    verified_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)),
    due_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)) COMMENT 'end of the term',
    next_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)) COMMENT 'null: nothing until something happens',
    erased_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)),
    ended_at Nullable(DateTime64(3, 'UTC')) CODEC(ZSTD(1)) COMMENT 'null: open',
    hold String COMMENT 'ground of a legal hold that stands',
    ground String COMMENT 'why it was refused or cancelled',
    joined Nullable(UUID) COMMENT 'the open request of the same person that answers this one too',
    targets Nested
    (
        id LowCardinality(String),
        hop Nullable(Int32),
        state LowCardinality(String),
        grade LowCardinality(String),
        protocol LowCardinality(String),
        attempts UInt32,
        ended_at Nullable(DateTime64(3, 'UTC')),
        detail String,
        ground String
    ),
    alarms Array(String),
    document String CODEC(ZSTD(3)),
    updated_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(T64, ZSTD(1))
)
ENGINE = ${replicated}ReplacingMergeTree(version)
ORDER BY request_id
SETTINGS
    index_granularity = 1024,
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window = 10000,
    old_parts_lifetime = 1,
    cleanup_delay_period = 1,
    cleanup_delay_period_random_add = 1,
    max_cleanup_delay_period = 5,
    min_compressed_bytes_to_fsync_after_merge = 1;

-- Whose an open request is. Apart from the rest, because these rows go, physically and with all their older versions,
-- once the request has ended (purge.py): small rows make that cheap.
CREATE TABLE IF NOT EXISTS erasing ${on_cluster}
(
    alias FixedString(16) CODEC(NONE),
    request_id UUID CODEC(NONE)
)
ENGINE = ${replicated}ReplacingMergeTree
ORDER BY (alias, request_id)
SETTINGS
    index_granularity = 1024,
    non_replicated_deduplication_window = 10000,
    replicated_deduplication_window = 10000,
    old_parts_lifetime = 1,
    cleanup_delay_period = 1,
    cleanup_delay_period_random_add = 1,
    max_cleanup_delay_period = 5,
    min_compressed_bytes_to_fsync_after_merge = 1;

-- Whom a purge is about, so that no id stands in a mutation's text or in the server's log of queries. A batch is a
-- partition of its own: dropped as a whole when it is done.
CREATE TABLE IF NOT EXISTS erase_batch ${on_cluster}
(
    batch UUID,
    subject UUID CODEC(NONE),
    made_at DateTime('UTC') DEFAULT now('UTC')
)
ENGINE = ${replicated}MergeTree
PARTITION BY batch
ORDER BY subject
SETTINGS
    old_parts_lifetime = 1,
    cleanup_delay_period = 1,
    cleanup_delay_period_random_add = 1,
    max_cleanup_delay_period = 5;

-- What a deletion or a merge has replaced leaves the disk within seconds: as these tables come, it stays up to eight
-- minutes on a server, and the cleaner looks after half a minute at best. The eight minutes are there because what
-- replaces it is not synced to disk; so it is synced.
ALTER TABLE lineage ${on_cluster} MODIFY SETTING
    old_parts_lifetime = 1,
    cleanup_delay_period = 1,
    cleanup_delay_period_random_add = 1,
    max_cleanup_delay_period = 5,
    min_compressed_bytes_to_fsync_after_merge = 1;
ALTER TABLE subjects ${on_cluster} MODIFY SETTING
    old_parts_lifetime = 1,
    cleanup_delay_period = 1,
    cleanup_delay_period_random_add = 1,
    max_cleanup_delay_period = 5,
    min_compressed_bytes_to_fsync_after_merge = 1;
