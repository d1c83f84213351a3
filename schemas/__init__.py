"""Where the documents of the project are: event contracts, policies, mappings, vocabularies. Data only."""

from importlib.resources import files
from pathlib import Path


def schema_dir() -> Path:
    """The folder that holds `avro/`, `policies/` and `mappings/`, in a checkout as in an installed package."""
    return Path(str(files(__name__)))
