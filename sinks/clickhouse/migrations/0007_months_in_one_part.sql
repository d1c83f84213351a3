-- What a person's lineage costs is the number of parts to look into. A month into which nothing has come for a day
-- becomes one part; by itself the engine leaves it in several. A late fact has it merged once more, a day later.
ALTER TABLE lineage ${on_cluster} MODIFY SETTING
    min_age_to_force_merge_seconds = 86400,
    min_age_to_force_merge_on_partition_only = 1;
