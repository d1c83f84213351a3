-- A person's lineage reads a few rows of nearly every column in every month. A wide part keeps each column in files of
-- its own, some fifty to open and to unpack for one person and month; a compact part has them side by side in one. That
-- is two and a half times less work for the question that is asked most; questions that read one column of whole months
-- cost up to twice as much (docs/benchmarks.md). Holds for new parts: those that are there change when they are merged.
ALTER TABLE lineage ${on_cluster} MODIFY SETTING min_bytes_for_wide_part = 1099511627776;

-- Whose an event is: without it, the ids of all rows are read. A little over one byte a row. Built for new parts, and
-- for the others when they are merged.
ALTER TABLE lineage ${on_cluster} ADD INDEX IF NOT EXISTS event_ids event_id TYPE bloom_filter(0.01) GRANULARITY 4;
