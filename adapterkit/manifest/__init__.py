"""Artifacts as facts: the manifest, the folder, strict JSON and atomic writes. No torch is imported here."""

from adapterkit.manifest.atomic import check_output, stage_folder, write_file, write_folder
from adapterkit.manifest.codec import dump_manifest, parse_manifest, validation_problems
from adapterkit.manifest.facts import (
    FORMAT,
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
    KEPT,
    MANIFEST,
    MAX_BYTES,
    TENSORS,
    Files,
    read_file,
    read_folder,
)
from adapterkit.manifest.hub_names import HubName, check_publishable, parse_hub_name
from adapterkit.manifest.opening import file_problems, open_manifest, refused
from adapterkit.manifest.strict_json import dump_json, parse_json, parse_object

__all__ = [
    "CARD",
    "CONFIG",
    "FORMAT",
    "KEPT",
    "MANIFEST",
    "MAX_BYTES",
    "TENSORS",
    "CompositionFacts",
    "DataFacts",
    "Files",
    "GoldenFacts",
    "GoldenRow",
    "HubName",
    "Manifest",
    "MemberFacts",
    "PartFacts",
    "check_output",
    "check_publishable",
    "dump_json",
    "dump_manifest",
    "file_problems",
    "open_manifest",
    "parse_hub_name",
    "parse_json",
    "parse_manifest",
    "parse_object",
    "read_file",
    "read_folder",
    "refused",
    "stage_folder",
    "validation_problems",
    "write_file",
    "write_folder",
]
