"""What the local Apache Kafka broker is told: its settings, and how it logs. Data only."""

# Paths are relative, for the broker's working directory is the data folder: so no path needs escaping, and
# the folder may be moved.
PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "log.dirs": "log",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    # A killed broker may register again only when its former session is over: by default after 9 s, and its
    # retries have backed off to 13 s by then.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "2500",
    # The loader's intent lives in the offset metadata: a stack that was off for a holiday must still find it.
    "offsets.retention.minutes": "5256000",
    # Erasure overwrites records in compacted topics and waits for the old bytes to go.
    "log.cleaner.backoff.ms": "15000",
    "log.retention.check.interval.ms": "60000",
    # Enough for 1.3 million keys a pass; the default takes half of this heap.
    "log.cleaner.dedupe.buffer.size": "33554432",
}

LOG4J_PROPERTIES = """\
status = error
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = kafka.log
appender.file.filePattern = kafka.log.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{yyyy-MM-dd'T'HH:mm:ss.SSSXXX} %p %m (%c)%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 3
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
"""
