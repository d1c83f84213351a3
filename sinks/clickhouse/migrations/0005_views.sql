-- Questions in SQL for people who bring their own tools: docs/sql.md tells of each view and asks examples. Views hold no
-- data: what is purged from the tables is gone from them in the same moment. None shows an alias, which is what would
-- lead from a subject to a person; only looks_taken shows whom somebody looked at, and why.
--
-- Of the rows of one event the highest revision counts, and of equal ones the one recorded last, as in queries.py. The
-- rows of one event share their person, time, activity, discloser and recipient: by these the rows are told apart, in
-- the order of the table, so that the engine applies filters on them before anything else, and prunes by them. Filters
-- on what a verdict may change (verdict, clauses, purpose …) come after. Should an id come again with another recipient
-- or time, it is another disclosure: nothing hides behind a repeated id.
--
-- A view reads its tables with the rights of whoever applied this, so that its readers need none of their own.
CREATE VIEW IF NOT EXISTS disclosures ${on_cluster}
(
    event_id UUID,
    subject UUID COMMENT 'the person: a random id that no view ties to a user id',
    occurred_at DateTime64(3, 'UTC'),
    activity Enum8('collect' = 1, 'share' = 2, 'transfer' = 3, 'publish' = 4, 'consent' = 5, 'erase' = 6)
        COMMENT 'share, transfer or publish',
    discloser LowCardinality(String) COMMENT 'self: the app; else the recipient that passed the data on',
    recipient LowCardinality(Nullable(String)) COMMENT 'null: the public',
    recipient_kind LowCardinality(Nullable(String)) COMMENT 'as registered at that time',
    purpose LowCardinality(Nullable(String)) COMMENT 'by which the event was judged',
    data_categories Array(LowCardinality(String)) COMMENT 'keys of fideslang',
    region LowCardinality(Nullable(String)),
    collected_at Nullable(DateTime64(3, 'UTC')) COMMENT 'when the data had been collected, where that is told',
    verdict Enum8('none' = 0, 'lawful' = 1, 'violation' = 2, 'gap' = 3),
    clauses Array(LowCardinality(String)) COMMENT 'of the policy, those that decided',
    findings Array(LowCardinality(String)) COMMENT 'verdict, clause and reason of each rule that was not kept',
    legal_basis Enum8('none' = 0, 'explicit_consent' = 1, 'policy_acceptance' = 2, 'legal_obligation' = 3),
    policy_version UInt64 COMMENT '0: no policy was in force',
    sensitive Bool,
    source LowCardinality(String) COMMENT 'where the event came from',
    revision UInt64 COMMENT '0: as judged at once; else judged anew, because of a late fact',
    judged_at DateTime64(3, 'UTC')
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT event_id, subject, occurred_at, activity, discloser, recipient, recipient_kind, purpose, data_categories, region,
    collected_at, verdict, clauses, findings, legal_basis, policy_version, sensitive, source, revision, judged_at
FROM lineage
WHERE activity IN ('share', 'transfer', 'publish')
ORDER BY subject, occurred_at, event_id, activity, discloser, recipient,
    revision DESC, kafka_partition DESC, kafka_offset DESC
LIMIT 1 BY subject, occurred_at, event_id, activity, discloser, recipient
COMMENT 'every disclosure once, by the verdict that counts';

CREATE VIEW IF NOT EXISTS collections ${on_cluster}
(
    event_id UUID,
    subject UUID COMMENT 'the person: a random id that no view ties to a user id',
    occurred_at DateTime64(3, 'UTC'),
    event_type LowCardinality(String),
    fields Array(LowCardinality(String)) COMMENT 'names of the fields that were collected, never their contents',
    data_categories Array(LowCardinality(String)) COMMENT 'keys of fideslang',
    purpose LowCardinality(Nullable(String)) COMMENT 'by which the event was judged',
    region LowCardinality(Nullable(String)),
    storage_country LowCardinality(Nullable(String)),
    verdict Enum8('none' = 0, 'lawful' = 1, 'violation' = 2, 'gap' = 3),
    clauses Array(LowCardinality(String)) COMMENT 'of the policy, those that decided',
    findings Array(LowCardinality(String)) COMMENT 'verdict, clause and reason of each rule that was not kept',
    legal_basis Enum8('none' = 0, 'explicit_consent' = 1, 'policy_acceptance' = 2, 'legal_obligation' = 3),
    policy_version UInt64 COMMENT '0: no policy was in force',
    sensitive Bool,
    source LowCardinality(String) COMMENT 'where the event came from',
    revision UInt64 COMMENT '0: as judged at once; else judged anew, because of a late fact',
    judged_at DateTime64(3, 'UTC')
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT event_id, subject, occurred_at, event_type, fields, data_categories, purpose, region, storage_country, verdict,
    clauses, findings, legal_basis, policy_version, sensitive, source, revision, judged_at
FROM lineage
WHERE activity = 'collect'
ORDER BY subject, occurred_at, event_id, revision DESC, kafka_partition DESC, kafka_offset DESC
LIMIT 1 BY subject, occurred_at, event_id
COMMENT 'every collection once, by the verdict that counts';

CREATE VIEW IF NOT EXISTS violations ${on_cluster}
(
    event_id UUID,
    subject UUID COMMENT 'the person: a random id that no view ties to a user id',
    occurred_at DateTime64(3, 'UTC'),
    activity Enum8('collect' = 1, 'share' = 2, 'transfer' = 3, 'publish' = 4, 'consent' = 5, 'erase' = 6)
        COMMENT 'collect, share, transfer or publish',
    discloser LowCardinality(String) COMMENT 'self: the app; else the recipient that passed the data on',
    recipient LowCardinality(Nullable(String)) COMMENT 'null: a collection, or the public',
    clause LowCardinality(String) COMMENT 'of the policy, one that was not kept',
    reasons Array(String) COMMENT 'why, in a word each',
    purpose LowCardinality(Nullable(String)) COMMENT 'by which the event was judged',
    data_categories Array(LowCardinality(String)) COMMENT 'keys of fideslang',
    policy_version UInt64 COMMENT '0: no policy was in force',
    revision UInt64 COMMENT '0: as judged at once; else judged anew, because of a late fact',
    judged_at DateTime64(3, 'UTC')
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT event_id, subject, occurred_at, activity, discloser, recipient, clause,
    arrayMap(
        finding -> splitByChar(' ', toString(finding))[3],
        arrayFilter(finding -> startsWith(finding, concat('violation ', clause, ' ')), findings)) AS reasons,
    purpose, data_categories, policy_version, revision, judged_at
FROM
(
    SELECT * FROM lineage
    WHERE activity IN ('collect', 'share', 'transfer', 'publish')
    ORDER BY subject, occurred_at, event_id, activity, discloser, recipient,
        revision DESC, kafka_partition DESC, kafka_offset DESC
    LIMIT 1 BY subject, occurred_at, event_id, activity, discloser, recipient
)
ARRAY JOIN clauses AS clause
WHERE verdict = 'violation'
COMMENT 'of every event that is a violation a row for each clause that decided so';

-- Copies of a fact are one fact, and the first one counts.
CREATE VIEW IF NOT EXISTS consents ${on_cluster}
(
    event_id UUID,
    subject UUID COMMENT 'the person: a random id that no view ties to a user id',
    occurred_at DateTime64(3, 'UTC'),
    action Enum8('none' = 0, 'accept' = 1, 'leave' = 2, 'age' = 3, 'guardian' = 4, 'grant' = 5, 'withdraw' = 6),
    policy_version Nullable(UInt64) COMMENT 'accept: which version',
    age_band LowCardinality(Nullable(String)) COMMENT 'age: adult, 14_17 or under_14',
    guardian_granted Nullable(Bool) COMMENT 'guardian: whether they consent',
    activity LowCardinality(Nullable(String)) COMMENT 'grant and withdraw: use, share, transfer or publish',
    purpose LowCardinality(Nullable(String)) COMMENT 'grant and withdraw; *: all',
    recipient LowCardinality(Nullable(String)) COMMENT 'grant and withdraw: an id, kind:K, or * for all',
    data_categories Array(LowCardinality(String)) COMMENT 'grant and withdraw; *: all',
    source LowCardinality(String) COMMENT 'where the event came from',
    recorded_at DateTime64(3, 'UTC')
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT event_id, subject, occurred_at, consent_action AS action, nullIf(consent_version, 0) AS policy_version, age_band,
    guardian_granted, consent_activity AS activity, purpose, recipient, data_categories, source,
    judged_at AS recorded_at
FROM lineage
WHERE lineage.activity = 'consent'
ORDER BY subject, occurred_at, event_id, kafka_partition, kafka_offset
LIMIT 1 BY subject, occurred_at, event_id
COMMENT 'every fact about a consent once';

-- Facts of one moment follow each other as in processors/consent.py: on a tie the younger band, a guardian's no and the
-- withdrawal have the last word, and what ends consents ends those of its own moment too.
CREATE VIEW IF NOT EXISTS consent_intervals ${on_cluster}
(
    subject UUID COMMENT 'the person: a random id that no view ties to a user id',
    kind String COMMENT 'acceptance, age, guardian or choice',
    since DateTime64(3, 'UTC'),
    until Nullable(DateTime64(3, 'UTC')) COMMENT 'excluded; null: it still stands',
    given Bool COMMENT 'a choice: granted or withdrawn; a guardian: yes or no; else true',
    policy_version Nullable(UInt64) COMMENT 'acceptance',
    age_band LowCardinality(Nullable(String)) COMMENT 'age',
    activity LowCardinality(Nullable(String)) COMMENT 'choice: use, share, transfer or publish',
    purpose LowCardinality(Nullable(String)) COMMENT 'choice; *: all',
    recipient LowCardinality(Nullable(String)) COMMENT 'choice: an id, kind:K, or * for all',
    data_categories Array(LowCardinality(String)) COMMENT 'choice; *: all',
    event_id UUID COMMENT 'the event in the view consents by which it began'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT subject, kind, since, until, given, policy_version, age_band, activity, purpose, recipient, data_categories,
    event_id
FROM
(
    SELECT *, if(kind = 'age', erased, ended) AS end, if(isNull(end) OR next < end, next, end) AS until FROM
    (
        SELECT *,
            min(following) OVER (
                PARTITION BY subject, kind, policy_version_of, activity, purpose, recipient, scope
                ORDER BY since, turn, tie ROWS BETWEEN 1 FOLLOWING AND 1 FOLLOWING) AS next,
            min(if(kind = 'end', following, NULL)) OVER (
                PARTITION BY subject
                ORDER BY since, turn, tie ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS ended,
            min(if(kind = 'end' AND action != 'leave', following, NULL)) OVER (
                PARTITION BY subject
                ORDER BY since, turn, tie ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING) AS erased
        FROM
        (
            SELECT subject, event_id, occurred_at AS since, toNullable(occurred_at) AS following,
                consent_action AS action,
                multiIf(
                    consent_action IN ('none', 'leave'), 'end',
                    consent_action = 'accept', 'acceptance',
                    consent_action = 'age', 'age',
                    consent_action = 'guardian', 'guardian',
                    'choice') AS kind,
                indexOf(
                    ['accept', 'age', 'guardian', 'grant', 'withdraw', 'leave', 'none'],
                    toString(consent_action)) AS turn,
                (indexOf(['adult', '14_17', 'under_14'], ifNull(lineage.age_band, '')),
                    NOT ifNull(guardian_granted, false)) AS tie,
                consent_action = 'grant' OR consent_action IN ('accept', 'age') OR ifNull(guardian_granted, false)
                    AS given,
                nullIf(consent_version, 0) AS policy_version,
                consent_version AS policy_version_of,
                lineage.age_band,
                consent_activity AS activity,
                lineage.purpose,
                if(consent_activity IN ('share', 'transfer'), lineage.recipient, NULL) AS recipient,
                lineage.data_categories,
                if(consent_activity = 'use', [], arraySort(arrayDistinct(lineage.data_categories))) AS scope
            FROM lineage
            WHERE lineage.activity = 'consent' OR (lineage.activity = 'erase' AND erasure_phase = 'completed')
            ORDER BY subject, occurred_at, lineage.event_id, kafka_partition, kafka_offset
            LIMIT 1 BY subject, occurred_at, lineage.event_id
        )
        WHERE (kind != 'acceptance' OR policy_version_of != 0) AND (kind != 'age' OR tie.1 > 0)
    )
)
WHERE kind != 'end' AND (isNull(until) OR until > since)
COMMENT 'from when until when a consent, a refusal, an age band or a guardian''s word stood';

CREATE VIEW IF NOT EXISTS recipient_reach ${on_cluster}
(
    recipient LowCardinality(Nullable(String)),
    people UInt64 COMMENT 'whose data it was given, whatever the verdict',
    people_direct UInt64 COMMENT 'of them, by the app itself',
    people_onward UInt64 COMMENT 'of them, by another recipient; one may be among both',
    disclosures UInt64,
    first_at DateTime64(3, 'UTC'),
    last_at DateTime64(3, 'UTC')
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT recipient, uniqExact(subject) AS people, uniqExactIf(subject, discloser = 'self') AS people_direct,
    uniqExactIf(subject, discloser != 'self') AS people_onward, uniqExact(event_id) AS disclosures,
    min(occurred_at) AS first_at, max(occurred_at) AS last_at
FROM lineage
WHERE activity IN ('share', 'transfer') AND revision = 0 AND isNotNull(recipient)
GROUP BY recipient
COMMENT 'how many people each recipient was given data about';

-- The projection by_day has counted all rows; the few that do not count are found by their ids, and subtracted.
CREATE VIEW IF NOT EXISTS daily_counts ${on_cluster}
(
    day Date COMMENT 'in UTC',
    activity Enum8('collect' = 1, 'share' = 2, 'transfer' = 3, 'publish' = 4, 'consent' = 5, 'erase' = 6)
        COMMENT 'collect, share, transfer or publish',
    recipient LowCardinality(Nullable(String)),
    purpose LowCardinality(Nullable(String)),
    verdict Enum8('none' = 0, 'lawful' = 1, 'violation' = 2, 'gap' = 3),
    clauses Array(LowCardinality(String)),
    events Int64
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT day, activity, recipient, purpose, verdict, clauses, sum(counted) AS events FROM
(
    SELECT toDate(occurred_at) AS day, activity, recipient, purpose, verdict, clauses, toInt64(count()) AS counted
    FROM lineage
    WHERE activity IN ('collect', 'share', 'transfer', 'publish')
    GROUP BY toDate(occurred_at), activity, recipient, purpose, verdict, clauses
    UNION ALL
    SELECT toDate(occurred_at) AS day, activity, recipient, purpose, verdict, clauses, -toInt64(count()) AS counted
    FROM
    (
        SELECT occurred_at, activity, recipient, purpose, verdict, clauses, row_number() OVER (
            PARTITION BY event_id ORDER BY revision DESC, kafka_partition DESC, kafka_offset DESC) AS place
        FROM lineage
        WHERE activity IN ('collect', 'share', 'transfer', 'publish')
          AND event_id IN (SELECT event_id FROM lineage GROUP BY event_id HAVING count() > 1)
    )
    WHERE place > 1
    GROUP BY toDate(occurred_at), activity, recipient, purpose, verdict, clauses
)
GROUP BY day, activity, recipient, purpose, verdict, clauses
HAVING events != 0
COMMENT 'events by day and by all that charts need, counted beforehand';

CREATE VIEW IF NOT EXISTS erasures ${on_cluster}
(
    request_id UUID COMMENT 'leads to nobody',
    state LowCardinality(String),
    origin LowCardinality(String) COMMENT 'how it came: request, or what it was born of',
    regulation LowCardinality(String),
    received_at DateTime64(3, 'UTC'),
    verified_at Nullable(DateTime64(3, 'UTC')) COMMENT 'when the term began',
    due_at Nullable(DateTime64(3, 'UTC')) COMMENT 'when it ends',
    erased_at Nullable(DateTime64(3, 'UTC')) COMMENT 'when all targets were final',
    ended_at Nullable(DateTime64(3, 'UTC')) COMMENT 'null: open',
    hold String COMMENT 'ground of a legal hold that stands',
    ground String COMMENT 'why it was refused or cancelled',
    joined Nullable(UUID) COMMENT 'the open request of the same person that answers this one too',
    alarms Array(String) COMMENT 'what contradicts what a recipient said'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT request_id, state, origin, regulation, received_at, verified_at, due_at, erased_at, ended_at, hold, ground,
    joined, alarms
FROM erasure_requests FINAL
COMMENT 'erasure requests as they stand';

CREATE VIEW IF NOT EXISTS erasure_targets ${on_cluster}
(
    request_id UUID,
    target LowCardinality(String) COMMENT 'a recipient, or store:… for an own one',
    own_store Bool,
    hop Nullable(Int32) COMMENT 'how far from the app: 1 got the data from it directly',
    state LowCardinality(String),
    grade LowCardinality(String) COMMENT 'what there is to show for it',
    protocol LowCardinality(String),
    attempts UInt32,
    received_at DateTime64(3, 'UTC') COMMENT 'the request',
    verified_at Nullable(DateTime64(3, 'UTC')) COMMENT 'the request',
    due_at Nullable(DateTime64(3, 'UTC')) COMMENT 'the request',
    ended_at Nullable(DateTime64(3, 'UTC')) COMMENT 'this target; null: not final',
    detail String,
    ground String COMMENT 'why it is exempt'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT request_id, `targets.id` AS target, startsWith(`targets.id`, 'store:') AS own_store, `targets.hop` AS hop,
    `targets.state` AS state, `targets.grade` AS grade, `targets.protocol` AS protocol,
    `targets.attempts` AS attempts, received_at, verified_at, due_at, `targets.ended_at` AS ended_at,
    `targets.detail` AS detail, `targets.ground` AS ground
FROM (SELECT * FROM erasure_requests FINAL)
ARRAY JOIN targets
COMMENT 'of every erasure request a row for each target';

CREATE VIEW IF NOT EXISTS looks_taken ${on_cluster}
(
    look_id UUID,
    at DateTime64(3, 'UTC'),
    client LowCardinality(String) COMMENT 'who looked',
    role LowCardinality(String) COMMENT 'that let the client in',
    operation LowCardinality(String),
    people UInt64 COMMENT 'how many were shown',
    subject Nullable(UUID) COMMENT 'at whom; null: at many, at nobody known, or at somebody erased since',
    reason String COMMENT 'why; empty where subject is null',
    subject_matter String COMMENT 'of a look at many people: what was asked, and why'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER
AS SELECT look_id, at, client, role, operation, people,
    nullIf(looks.subject, toUUID('00000000-0000-0000-0000-000000000000')) AS subject, reason, subject_matter
FROM looks
COMMENT 'who looked at people, when and why: for overseers';
