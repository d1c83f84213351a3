"""Who may do what in ClickHouse: a role for each job and each kind of reader, with the grants it needs and no more.

Frozen data, and the SQL that an administrator runs. Never a password: of a user's password a salted SHA-256 goes into
the SQL, as the server keeps it. A test runs each job with its role's grants, enforced by the engine, and tries
everything else (tests/integration/test_accounts.py).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sinks.clickhouse.client import quoted
from sinks.clickhouse.erasable import PLACES, Shown, purged_places

OVERSEEN = frozenset({"looks_taken"})
"""Views that show whom somebody looked at, and why."""

_MUTATIONS = frozenset({"mutations", "tables"})
_PARTS = frozenset({"parts", "detached_parts"})


@dataclass(frozen=True)
class Role:
    """What for, and which privilege on which tables. empties: table → the columns it may empty. all: privileges on the
    whole database. system: tables of the server's own that it reads. asks: sends tables along with its queries, which
    some versions let only those do who may create temporary ones. settings: of users with this role."""

    purpose: str
    select: frozenset[str] = frozenset()
    insert: frozenset[str] = frozenset()
    delete: frozenset[str] = frozenset()
    empties: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    all: tuple[str, ...] = ()
    system: frozenset[str] = frozenset()
    asks: bool = False
    settings: str = ""

    def grants(self, database: str) -> list[str]:
        """`PRIVILEGE ON place`, as it stands behind GRANT."""
        privileges = (("SELECT", self.select), ("INSERT", self.insert), ("ALTER DELETE", self.delete))
        return [
            *(f"{privilege} ON {quoted(database)}.{quoted(t)}" for privilege, on in privileges for t in sorted(on)),
            *(
                f"ALTER UPDATE({', '.join(map(quoted, columns))}) ON {quoted(database)}.{quoted(t)}"
                for t, columns in sorted(self.empties.items())
            ),
            *(f"{privilege} ON {quoted(database)}.*" for privilege in self.all),
            *(f"SELECT ON system.{table}" for table in sorted(self.system)),
            *(["CREATE TEMPORARY TABLE ON *.*"] if self.asks else []),
        ]


def _tables(names: str) -> frozenset[str]:
    return frozenset(names.split())


# Reads, whatever the client asks for, and for so many seconds at most.
_READER = "readonly = 2, max_execution_time = 300"
_RECORD = _tables("schema_migrations")
_VIEWS = frozenset(name for name, place in PLACES.items() if isinstance(place, Shown))

ROLES: Mapping[str, Role] = {
    "lineage_migrations": Role(
        "`lineage migrate apply`; what the views read, they read with its rights",
        select=frozenset().union(*(place.tables for place in PLACES.values() if isinstance(place, Shown)), _RECORD),
        insert=_RECORD,
        all=(
            *("CREATE TABLE", "CREATE VIEW", "DROP VIEW", "ALTER VIEW", "ALTER COLUMN", "ALTER INDEX"),
            *("ALTER PROJECTION", "ALTER CONSTRAINT", "ALTER SETTINGS"),
        ),
    ),
    "lineage_loader": Role("`lineage worker loader`", select=_tables("lineage"), insert=_tables("lineage"), asks=True),
    "lineage_links": Role(
        "`lineage worker links`",
        select=_tables("subjects"),
        insert=_tables("subjects"),
        delete=_tables("subjects"),
        system=_MUTATIONS,
    ),
    "lineage_requests": Role(
        "`lineage worker requests`",
        select=_tables("erasure_requests erasing"),
        insert=_tables("erasure_requests erasing"),
        delete=_tables("erasing"),
        system=_MUTATIONS,
    ),
    "lineage_revisions": Role("`lineage worker revisions`, `lineage retag`", select=_tables("lineage"), asks=True),
    "lineage_erasures": Role(
        "`lineage worker erasures`, with the births of erasures and the own purge",
        select=_tables("lineage subjects looks erasing erasure_requests erase_batch"),
        insert=_tables("erase_batch"),
        delete=_tables("lineage subjects erase_batch"),
        empties={name: place.emptied for name, place in purged_places().items() if place.emptied},
        system=_MUTATIONS | _PARTS,
        asks=True,
    ),
    "lineage_api": Role(
        "`lineage api`: the audit API, its pages, OpenDSR",
        select=_tables("lineage subjects erasing erasure_requests looks"),
        insert=_tables("looks"),
        asks=True,
    ),
    "lineage_commands": Role(
        "the commands that ask ClickHouse itself: `lineage erase`, `requests`, `policy review`, `doctor`",
        select=_tables("lineage subjects erasing erasure_requests schema_migrations"),
        asks=True,
    ),
    "lineage_verify": Role("`lineage verify`", select=_tables("lineage subjects erasure_requests"), asks=True),
    "lineage_bi": Role(
        "people with tools of their own: the views, and no table", select=_VIEWS - OVERSEEN, settings=_READER
    ),
    "lineage_overseer": Role("whoever watches those who look at people", select=OVERSEEN, settings=_READER),
}
"""Name → role."""


def role_statements(database: str, cluster: str | None = None) -> list[str]:
    """Makes the roles, or gives them what they lack; takes away what they should not have."""
    on = f" ON CLUSTER {quoted(cluster)}" if cluster else ""
    statements = []
    for name, role in ROLES.items():
        statements.append(f"CREATE ROLE IF NOT EXISTS {quoted(name)}{on}")
        # In one statement, so that a job that runs does not miss its grants for a moment.
        statements.append(f"GRANT{on} {', '.join(role.grants(database))} TO {quoted(name)} WITH REPLACE OPTION")
        if role.settings:
            statements.append(f"ALTER ROLE {quoted(name)}{on} SETTINGS {role.settings}")
    return statements


@dataclass(frozen=True)
class User:
    """One who signs in. role: of `ROLES`."""

    name: str
    role: str
    password: str

    def __repr__(self) -> str:
        return f"User({self.name!r}, {self.role!r})"


class UsersError(ValueError):
    """A list of users is not to be understood; the text says where, and quotes no password."""


def read_users(text: str) -> list[User]:
    """Lines `USER ROLE PASSWORD`, with `#` comments. Raises UsersError."""
    users = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.strip().split(maxsplit=2)
        if len(words) != 3:
            raise UsersError(f"line {number}: expected USER ROLE PASSWORD")
        name, role, password = words
        if role not in ROLES:
            raise UsersError(f"line {number}: there is no role {role}; there are {', '.join(ROLES)}")
        if name in ROLES:
            raise UsersError(f"line {number}: {name} is the name of a role; give the user another one")
        users.append(User(name, role, password))
    return users


def user_statements(users: Sequence[User], cluster: str | None = None) -> list[str]:
    """Makes the users, or gives them the passwords and roles that are told here."""
    on = f" ON CLUSTER {quoted(cluster)}" if cluster else ""
    statements = []
    for user in users:
        salt = secrets.token_hex(32)
        digest = hashlib.sha256((user.password + salt).encode()).hexdigest()
        identified = f"IDENTIFIED WITH sha256_hash BY '{digest}' SALT '{salt}'"
        statements += [
            f"CREATE USER IF NOT EXISTS {quoted(user.name)}{on} {identified}",
            f"ALTER USER {quoted(user.name)}{on} {identified}",
            f"GRANT{on} {quoted(user.role)} TO {quoted(user.name)}",
        ]
    return statements
