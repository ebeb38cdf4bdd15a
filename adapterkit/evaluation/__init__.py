"""Evaluation: metrics of an artifact on rows, with intervals."""

from adapterkit.evaluation.attributing import attribute as attribute
from adapterkit.evaluation.calibrating import calibrate as calibrate
from adapterkit.evaluation.compacting import compact as compact
from adapterkit.evaluation.comparing import compare as compare
from adapterkit.evaluation.differing import diff as diff
from adapterkit.evaluation.evaluating import check_writable as check_writable
from adapterkit.evaluation.evaluating import evaluate as evaluate
from adapterkit.evaluation.evaluating import record_evaluation as record_evaluation
from adapterkit.evaluation.outcome import HowAnswered as HowAnswered
from adapterkit.evaluation.probing.asked import Looking as Looking
from adapterkit.evaluation.probing.side_by_side import probe as probe
from adapterkit.evaluation.probing.starting_points import nearest as nearest
from adapterkit.evaluation.probing.starting_points import transfer as transfer
from adapterkit.evaluation.referencing import reference as reference
from adapterkit.evaluation.upgrading import upgrade as upgrade
from adapterkit.scoring import score as score
