"""Backbones: pretrained models whose weights never change, and what adapters need to know of them."""

from adapterkit.backbone.backbone import Backbone as Backbone
from adapterkit.backbone.contract import Contract as Contract
from adapterkit.backbone.fingerprint import fingerprints as fingerprints
from adapterkit.backbone.hardware import bfloat16_is_fast as bfloat16_is_fast
from adapterkit.backbone.hardware import pick_device as pick_device
from adapterkit.backbone.hardware import pick_dtype as pick_dtype
from adapterkit.backbone.limits import Pooling as Pooling
from adapterkit.backbone.recognise import find_sites as find_sites
from adapterkit.backbone.sites import Side as Side
from adapterkit.backbone.sites import Site as Site
from adapterkit.backbone.sites import Sites as Sites
from adapterkit.backbone.sites import Sublayer as Sublayer
from adapterkit.backbone.tokenizer import tokenizer_digest as tokenizer_digest
from adapterkit.backbone.trunk import without_pooler as without_pooler
