"""Measures of a representation: rows of numbers, and what they say of labels. No torch."""

from adapterkit.metrics.representations.checking import LEAST_ITEMS as LEAST_ITEMS
from adapterkit.metrics.representations.checking import Floats as Floats
from adapterkit.metrics.representations.checking import Labels as Labels
from adapterkit.metrics.representations.geometry import alignment as alignment
from adapterkit.metrics.representations.geometry import anisotropy as anisotropy
from adapterkit.metrics.representations.geometry import rank_me as rank_me
from adapterkit.metrics.representations.geometry import uniformity as uniformity
from adapterkit.metrics.representations.information import Codelength as Codelength
from adapterkit.metrics.representations.information import info_nce as info_nce
from adapterkit.metrics.representations.information import label_information as label_information
from adapterkit.metrics.representations.information import online_codelength as online_codelength
from adapterkit.metrics.representations.separability import Clusters as Clusters
from adapterkit.metrics.representations.separability import clusters as clusters
from adapterkit.metrics.representations.separability import linear_fit as linear_fit
from adapterkit.metrics.representations.separability import linear_probe as linear_probe
from adapterkit.metrics.representations.separability import near_targets as near_targets
from adapterkit.metrics.representations.separability import neighbours as neighbours
from adapterkit.metrics.representations.similarity import debiased_cka as debiased_cka
from adapterkit.metrics.representations.transferability import h_score as h_score
from adapterkit.metrics.representations.transferability import logme as logme
from adapterkit.metrics.representations.transferability import logme_regression as logme_regression
