"""Artifacts as facts: the manifest, the folder, strict JSON and atomic writes. No torch is imported here."""

from adapterkit.manifest.atomic import check_output, stage_folder, write_file, write_folder
from adapterkit.manifest.codec import (
    dump_manifest,
    file_problems,
    open_manifest,
    parse_manifest,
    read_whole,
    refused,
    validation_problems,
)
from adapterkit.manifest.facts import (
    FORMAT,
    CompactionFacts,
    CompositionFacts,
    DataFacts,
    GoldenFacts,
    GoldenRow,
    Manifest,
    MemberFacts,
    PartFacts,
)
from adapterkit.manifest.folder import (
    CARD,
    CONFIG,
    FINDINGS,
    KEPT,
    MANIFEST,
    MAX_BYTES,
    MAX_SIGNATURE_BYTES,
    RECORDS,
    REPORT,
    SIGNATURE,
    TENSORS,
    Files,
    read_file,
    read_folder,
)
from adapterkit.manifest.names import (
    ArtifactName,
    check_target,
    is_address,
    meant_as_folder,
    parse_hub_name,
    parse_store_name,
)
from adapterkit.manifest.store import Store, fetch_stored
from adapterkit.manifest.strict_json import dump_json, parse_json, parse_object, shown_json

__all__ = [
    "CARD", "CONFIG", "FINDINGS", "FORMAT", "KEPT", "MANIFEST", "MAX_BYTES", "MAX_SIGNATURE_BYTES", "RECORDS", "REPORT",
    "SIGNATURE", "TENSORS", "ArtifactName", "CompactionFacts", "CompositionFacts", "DataFacts", "Files", "GoldenFacts",
    "GoldenRow", "Manifest", "MemberFacts", "PartFacts", "Store", "check_output", "check_target", "dump_json",
    "dump_manifest", "fetch_stored", "file_problems", "is_address", "meant_as_folder", "open_manifest",
    "parse_hub_name", "parse_json", "parse_manifest", "parse_object", "parse_store_name", "read_file", "read_folder",
    "read_whole", "refused", "shown_json", "stage_folder", "validation_problems", "write_file", "write_folder",
]  # fmt: skip
