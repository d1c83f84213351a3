"""`lineage recipients import-gvl`: vendors of IAB's Global Vendor List as recipients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from infra.cli.options import json_option, located, say, write_json
from infra.settings import Settings
from streams.gvl import VendorList, VendorListError, read_vendor_list
from streams.policies import recipients_document
from streams.publishing import Published, publish_recipients


@click.command("import-gvl")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--vendor", "vendors", type=click.IntRange(1, 65_535), multiple=True, help="Only this id; repeatable.")
@click.option("--country", metavar="CC", help="Where they keep data: the list does not say.")
@click.option("--out", type=click.Path(path_type=Path), help="Write a recipients document there; publish nothing.")
@json_option
@located
def import_gvl(
    file: Path, vendors: Sequence[int], country: str | None, out: Path | None, as_json: bool, settings: Settings
) -> None:
    """Publish the vendors of a Global Vendor List as partners, `gvl:ID`, from the list's own time on.

    Example: lineage recipients import-gvl vendor-list.json --vendor 37 --vendor 129 --out our-vendors.yaml
    """
    try:
        found = read_vendor_list(file.read_bytes(), vendors, country)
    except VendorListError as error:
        raise click.ClickException(f"{file}: {error}") from error
    if not found.records:
        raise click.ClickException(f"{file}: no vendor of the list can be a recipient here: {_reasons(found)}")
    published = None
    if out is None:
        published = publish_recipients(settings.kafka(), found.records, settings.registry())
    else:
        out.write_text(_document(found), "utf-8")
    if as_json:
        write_json(_answer(found, published, out))
        return
    say(f"list {found.version}: {len(found.records)} vendors " + (f"in {out}" if out else "as recipients"))
    if published is not None:
        say(f"published {len(published.new)} entries, {len(published.unchanged)} were published before")
    if found.skipped:
        say(f"skipped: {_reasons(found)}")
    for what, count in found.unmapped.most_common():
        say(f"note: {count} of them: {what}")


def _reasons(found: VendorList) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in found.skipped.most_common()) or "it is empty"


def _answer(found: VendorList, published: Published | None, out: Path | None) -> dict[str, object]:
    return {
        "vendor_list_version": found.version,
        "tcf_policy_version": found.policy_version,
        "vendors": len(found.records),
        "published": published.new if published else [],
        "unchanged": published.unchanged if published else [],
        "out": str(out) if out else None,
        "skipped": dict(found.skipped),
        "unmapped": dict(found.unmapped),
        "retention_days": found.retention_days,
    }


def _document(found: VendorList) -> str:
    import yaml

    lines = [f"# Vendors of the Global Vendor List {found.version} (TCF policy version {found.policy_version}).\n"]
    lines.append("recipients:\n")
    for entry in recipients_document(found.records)["recipients"]:
        days = found.retention_days.get(entry["id"])
        if days is not None:
            lines.append(f"# Declares to keep data for up to {days} days.\n")
        kept = {key: value for key, value in entry.items() if value not in (None, [], False)}
        head = {"id": kept.pop("id"), "kind": kept.pop("kind")}
        lines.append(yaml.safe_dump([head | kept], sort_keys=False, allow_unicode=True))
    return "".join(lines)
