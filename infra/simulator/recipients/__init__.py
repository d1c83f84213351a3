"""Simulated recipients of disclosures: they take erasure commands in every protocol, and misbehave on demand.

For tests, and for trying one's own set-up. Nobody they stand for exists, and none of their keys is of any use
elsewhere.
"""

from infra.simulator.recipients.mix import PROTOCOLS
from infra.simulator.recipients.profiles import MISBEHAVIOURS, Profile, Profiles, load_profiles, named_profiles
from infra.simulator.recipients.simulator import RecipientSimulator

__all__ = [
    "MISBEHAVIOURS",
    "PROTOCOLS",
    "Profile",
    "Profiles",
    "RecipientSimulator",
    "load_profiles",
    "named_profiles",
]
