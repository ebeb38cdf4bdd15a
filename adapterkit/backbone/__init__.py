"""Backbones: pretrained models whose weights never change, and what adapters need to know of them."""

from adapterkit.backbone.backbone import Backbone
from adapterkit.backbone.contract import Contract
from adapterkit.backbone.fingerprint import fingerprints
from adapterkit.backbone.hardware import bfloat16_is_fast, pick_device, pick_dtype
from adapterkit.backbone.limits import Pooling
from adapterkit.backbone.own_folder import cache_folder
from adapterkit.backbone.recognise import find_sites
from adapterkit.backbone.sites import Side, Site, Sites, Sublayer
from adapterkit.backbone.tokenizer import tokenizer_digest
from adapterkit.backbone.trunk import without_pooler

__all__ = [
    "Backbone",
    "Contract",
    "Pooling",
    "Side",
    "Site",
    "Sites",
    "Sublayer",
    "bfloat16_is_fast",
    "cache_folder",
    "find_sites",
    "fingerprints",
    "pick_device",
    "pick_dtype",
    "tokenizer_digest",
    "without_pooler",
]
