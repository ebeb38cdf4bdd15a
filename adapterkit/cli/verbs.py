"""The verbs, in the order of the help, which lists them from here: a verb's own file is imported when it is used."""

import re
from collections.abc import Mapping
from importlib import import_module
from inspect import cleandoc
from keyword import iskeyword
from typing import Any, cast

import typer
from typer.core import TyperCommand

from adapterkit.cli.console import examples
from adapterkit.cli.shared import joined

_TABLE = """\
init: Look at files of rows and write a recipe for them, with comments, whose values suit their size.
data: Show what files of rows hold and what they are for: columns, labels, lengths, repeats, and what splits share.
train: Train an adapter: validate as it goes, keep the best state, write the artifact.
sweep: Train a recipe over a grid of settings, compare them on validation rows, and keep the best.
ablate: Say what one choice of a recipe is worth: heads, pooling, layers or sites, and what is within noise.
plan: Estimate what a recipe will need, without loading weights, and the cheapest way to fit it.
evaluate: Score an artifact on a file of rows, with a confidence interval on every metric.
compare: Say whether one artifact answers better than another beyond chance, by how much, and on which rows.
probe: Show what each layer of a backbone knows of some rows' classes, bare and with adapters, without any training.
nearest: Rank artifacts, bare backbones and their layers as starting points for a new task, without training.
transfer: Train heads for sets of rows on representations of others, and say what a ranking had chosen.
stream: Learn tasks or domains in order, and measure what is forgotten: by isolated adapters, and by one trained on.
attribute: Say what the head gains over the commonest answer, and the adapter over the head alone.
calibrate: Make confidence tell the truth: fit a temperature on rows, and withhold answers that are too unsure.
reference: Keep what rows look like to an adapter, in a new version, so that a service sees them drift.
upgrade: Say what becomes of adapters on another backbone: what fits, what a copy loses, what training regains.
report: Write one page about runs, with everything that verbs have found about them and written down with --json.
predict: Answer rows: one line of output per row.
host: Ask many adapters on one backbone, at a prompt.
serve: Answer over HTTP: mixed rows of many tasks in one batch, and a receipt with every answer.
list: List the runs below a folder: kind, metric with its interval, size, date and backbone.
inspect: Show what an artifact is: task, labels, backbone, size, metrics and origin; of a folder of runs, its list.
search: List artifacts that fit a backbone, on a hub, at a URL or in a folder: by fingerprint, else by base model.
verify: Prove that an artifact is whole, fits its backbone, and still answers its golden rows. Exit status 0 or 1.
compact: Write a smaller version of an artifact: fewer bits, lower ranks, and a metric that stays within a tolerance.
diff: Say what differs between two artifacts: recipe, data, labels, metrics, what was learned, and answers.
compose: Compose adapters as a file says: say what comes out and how near it is, and write it where it is an artifact.
sign: Vouch for an artifact or a composition: a signature beside it, which changes nothing of it.
push: Publish an artifact on a hub, at a URL or in a folder: its four files. Golden rows of its data are in them.
pull: Fetch an artifact from a hub, a URL or a folder, and check all that can be checked without its backbone.
import: Turn a folder of PEFT, AdapterHub, sentence-transformers or SetFit into an artifact that answers the same.
export: Write an adapter for programs without adapterkit, proven to answer as it does.
registry: Keep versions of tasks: which answers, since when, on what evidence; go back in one command.
receipt: Prove with a service's public key that answers are its own and whole, or make it a key to sign with.
recipes: List the recipes that ship with adapterkit, or print one to start your own from.
schema: Print the JSON schema of a recipe, a composition or a record: fields, bounds, defaults, what they do.
cache: Show or remove the states of frozen layers that training keeps on the disk.
"""
VERBS: Mapping[str, str] = dict(re.findall(r"^(\S+): (.+)$", _TABLE, re.MULTILINE))
"""Verb -> how its help begins. What it does is the function of its name in the file of its name, or verbs of its own
there; the text at the top of that file is the rest of the help, with commands as examples at the end."""

PARSED_BY = "COMMAND"
"""A verb whose words are read in a way of their own has a command class of this name in its file."""


def listed(name: str) -> TyperCommand:
    """A verb as the list of all shows it."""
    return TyperCommand(name, help=VERBS[name])


def load_verb(name: str) -> TyperCommand:
    """A verb with its options, ready to run."""
    word = f"{name}_" if iskeyword(name) else name
    module = import_module(f"adapterkit.cli.{word}")
    more, *commands = cleandoc(module.__doc__ or "").partition("\n\n")[2].split("$ ")
    text: dict[str, Any] = {"help": f"{VERBS[name]}\n\n{more}", "epilog": examples(*commands)}
    how: dict[str, Any] = {"add_completion": False, "rich_markup_mode": "rich"}
    function = getattr(module, word)
    if isinstance(function, typer.Typer):
        several = typer.Typer(no_args_is_help=True, **text, **how)
        several.add_typer(function)
        return cast(TyperCommand, typer.main.get_command(several))
    alone = typer.Typer(**how)
    alone.command(name, **text, cls=getattr(module, PARSED_BY, None))(joined(function))
    return cast(TyperCommand, typer.main.get_command(alone))
