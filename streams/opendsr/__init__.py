"""OpenDSR 2.0 as a processor, and where recipients' callbacks come in. See docs/erasure-api.md."""
