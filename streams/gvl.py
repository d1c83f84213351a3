"""IAB's Global Vendor List as entries of the registry of recipients.

Reads a list's JSON (specification versions 2 and 3) and says what it left out and why. Publishes nothing, and knows
no vendor by itself. What a vendor's declarations become is explained in docs/consent-signals.md.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml

from schemas import schema_dir
from streams.documents import format_instant, parse_instant
from streams.policies import recipient_record

_SPECIFICATIONS = (2, 3)
_LAST_ID = 65_535  # sixteen bits in a TC string


class VendorListError(ValueError):
    """What was given is no vendor list that can be read."""


@dataclass(frozen=True)
class VendorList:
    """A list's entries for the registry (`RecipientRegistered` records), and its words on them.

    `retention_days`: by recipient, the longest that the vendor declares. `skipped`: reason to the number of vendors.
    `unmapped`: declarations that no purpose or category here stands for, and how many of the entries have them.
    """

    version: int
    policy_version: int
    records: list[dict[str, Any]]
    retention_days: dict[str, int] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    unmapped: Counter[str] = field(default_factory=Counter)


def read_vendor_list(text: bytes | str, only: Collection[int] = (), country: str | None = None) -> VendorList:
    """The vendors of a list, or `only` those with these ids, as partners from the list's `lastUpdated` on.

    Raises `VendorListError` for what is no list. A vendor that cannot be an entry is skipped and counted.
    """
    try:
        given = json.loads(text)
        specification, vendors = given.get("gvlSpecificationVersion", 2), given["vendors"]
        effective_at = parse_instant(given["lastUpdated"])
        version, policy_version = int(given["vendorListVersion"]), int(given["tcfPolicyVersion"])
        listed = list(vendors.values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise VendorListError(
            "no Global Vendor List: it needs vendorListVersion, tcfPolicyVersion, lastUpdated and vendors"
        ) from error
    if specification not in _SPECIFICATIONS:
        raise VendorListError("a Global Vendor List of another specification: versions 2 and 3 are read")
    found = VendorList(version, policy_version, [])
    for vendor in listed:
        if only and _id(vendor) not in only:
            found.skipped["not asked for"] += 1
            continue
        try:
            _take(found, vendor, effective_at, country)
        except (ValueError, TypeError, KeyError, AttributeError):
            found.skipped["not a vendor as the specification has it"] += 1
    missing = len(set(only) - {_id(vendor) for vendor in listed})
    if missing:
        found.skipped["asked for, and not in the list"] += missing
    return found


def _take(found: VendorList, vendor: Mapping[str, Any], effective_at: int, country: str | None) -> None:
    declared = [*vendor["purposes"], *vendor.get("legIntPurposes", ())]
    special = vendor.get("specialPurposes", ())
    notes: set[str] = set()
    purposes = _mapped(declared, _purposes("tcf"), "purpose", notes)
    purposes += _mapped(special, _purposes("tcf_special"), "special purpose", notes)
    categories = _mapped(vendor.get("dataDeclaration", ()), _categories(), "data category", notes)
    if 1 not in vendor.get("specialFeatures", ()):
        # Precise location needs the opt-in to special feature 1: a vendor that does not declare it gets none.
        categories = [category for category in categories if category != "user.location.precise"]
    if "dataDeclaration" not in vendor:
        notes.add("no data categories declared (specification 2)")
    ends = vendor.get("deletedDate")
    identifier = _id(vendor)
    if not 0 < identifier <= _LAST_ID:
        raise ValueError("an id that is none")
    if ends is not None and parse_instant(ends) <= effective_at:
        # An entry counts from the list's time on; a contract that was over by then never held within it.
        notes.add("deleted before the list's time")
    if not purposes:
        found.skipped["declares no purpose that ours stand for"] += 1
        return
    urls = [url.get("privacy") for url in vendor.get("urls", ())]
    contact = vendor.get("policyUrl") or next((url for url in urls if url), None)
    name = " ".join(vendor["name"].split())
    # Raises for what is no text, and for text that cannot be written as UTF-8.
    str.encode(name), str.encode(contact or "")
    entry = {
        "id": f"gvl:{identifier}",
        "kind": "partner",
        "effective_at": effective_at,
        "name": name,
        "contact": contact,
        "country": country,
        "purposes": sorted(set(purposes)),
        "categories": sorted(set(categories)),
    }
    record = recipient_record({**entry, "effective_at": format_instant(effective_at), "contract_until": ends})
    found.records.append(record)
    days = _retention(vendor.get("dataRetention"))
    if days is not None:
        found.retention_days[record["id"]] = days
    found.unmapped.update(notes)


def _id(vendor: Any) -> int:
    """The vendor's number, 0 where it has none."""
    found = vendor.get("id") if isinstance(vendor, dict) else None
    return found if type(found) is int else 0


def _mapped(numbers: Any, table: Mapping[int, list[str]], what: str, notes: set[str]) -> list[str]:
    keys: list[str] = []
    for number in numbers:
        if number in table:
            keys += table[number]
        else:
            notes.add(f"{what} {number}")
    return keys


def _retention(given: Any) -> int | None:
    """Days: the standard, and the longest of what single purposes have."""
    if not isinstance(given, dict):
        return None
    days = [given.get("stdRetention"), *given.get("purposes", {}).values(), *given.get("specialPurposes", {}).values()]
    return max((each for each in days if type(each) is int), default=None)


@cache
def _purposes(key: str) -> dict[int, list[str]]:
    """TCF number to our purposes (schemas/vocabulary/purposes.yaml)."""
    document = yaml.safe_load((schema_dir() / "vocabulary" / "purposes.yaml").read_text("utf-8"))
    found: dict[int, list[str]] = {}
    for purpose, terms in document["purposes"].items():
        for number in terms.get(key, ()):
            found.setdefault(number, []).append(purpose)
    return found


@cache
def _categories() -> dict[int, list[str]]:
    document = json.loads((schema_dir() / "vocabulary" / "tcf.json").read_text("utf-8"))
    return {int(number): keys for number, keys in document["data_categories"].items()}
