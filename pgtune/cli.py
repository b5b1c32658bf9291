"""The command line: one verb a job. A verb's module is imported when the verb runs, so that help answers at once."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence

from pgtune import __version__, commands
from pgtune.commands import Report
from pgtune.errors import MACHINE_REFUSALS, PgtuneError
from pgtune.launcher import ERROR_FILE, end_with_launcher
from pgtune.names import METRIC_HELP, unknown_name
from pgtune.progress import first_process

__all__ = ["entry_point", "main"]

Verb = Callable[[argparse.Namespace], Report]


def entry_point() -> None:
    """What the command ``pgtune`` calls."""
    sys.exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0 done, 1 the work failed, 2 the input was wrong, 130 interrupted.

    Wrong options leave through argparse's own SystemExit with code 2. An exception that is no PgtuneError, nor one of
    MACHINE_REFUSALS, is a bug of ours: it is not caught.
    """
    end_with_launcher()
    _usable_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    parser, verbs = _parsers()
    if not words or words[0].startswith("-"):
        parser.parse_args(words)
        parser.print_help()
        return 0
    if words[0] not in verbs:
        parser.error(unknown_name("verb", words[0], verbs))
    # Intermixed: overrides may stand before and after options.
    arguments = verbs[words[0]].parse_intermixed_args(words[1:])
    arguments.in_terminal = sys.stdout.isatty()
    try:
        if getattr(arguments, "ranks", 1) > 1:
            from pgtune.launching import launch

            return launch(arguments.ranks, _without(words, "--processes"), debug=arguments.debug)
        with _quiet(arguments.debug):
            report: Report = arguments.run(arguments)
        if first_process() or not hasattr(arguments, "ranks"):  # only some verbs are shared by processes
            _print(report, as_json=arguments.json)
    except PgtuneError as error:
        if arguments.debug:
            traceback.print_exc()
        report_error(error, str(error), error.exit_code)
        return error.exit_code
    except KeyboardInterrupt:
        if ERROR_FILE not in os.environ:  # else the one that started this process says it
            print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has gone (`pgtune recipes | head -1`); what is left in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in MACHINE_REFUSALS:
            raise
        if arguments.debug:
            traceback.print_exc()
        place = f"{error.filename}: " if error.filename else ""
        report_error(error, f"{place}{error.strerror}", MACHINE_REFUSALS[error.errno])
        return MACHINE_REFUSALS[error.errno]
    return report.exit_code


def _without(words: Sequence[str], option: str) -> list[str]:
    """A command line without an option that takes a value."""
    left, iterator = [], iter(words)
    for word in iterator:
        if word == option:
            next(iterator)
        elif not word.startswith(f"{option}="):
            left.append(word)
    return left


def report_error(error: Exception, message: str, exit_code: int) -> None:
    """Print an error; of several processes that work together one does, or the one that started them (`launching`)."""
    shared = getattr(error, "on_all_ranks", False)
    if file := os.environ.get(ERROR_FILE):
        lost = type(error).__name__ == "PeerLost" or (shared and not first_process())
        record = {"message": message, "exit_code": exit_code, "when": time.monotonic(), "lost": lost}
        with open(file, "w", encoding="utf-8") as opened:
            json.dump(record, opened)
    elif first_process() or not shared:
        print(f"error: {message}", file=sys.stderr)


def _usable_streams() -> None:
    """A stream that was closed swallows what is said; one that lacks a character shows its number instead."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - stays open, as the other
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _print(report: Report, *, as_json: bool) -> None:
    if report.error:
        print(f"error: {report.error}", file=sys.stderr)
    if as_json:
        text = json.dumps(report.document, indent=2, ensure_ascii=False, allow_nan=False)
        try:
            text.encode(sys.stdout.encoding or "utf-8")
        except UnicodeEncodeError:  # a stream that is not UTF-8, or a file name that is not
            text = json.dumps(report.document, indent=2, allow_nan=False)
        print(text, flush=True)
    elif report.text:
        print(report.text.rstrip("\n"), flush=True)


@contextlib.contextmanager
def _quiet(debug: bool) -> Iterator[None]:
    """Standard output belongs to the report: what is printed while a verb runs goes to standard error.

    Libraries' warnings and log lines are kept back unless ``debug``: our own messages say what a user can act on.
    """
    if not debug:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
        if not sys.stderr.isatty():
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        if not debug:
            warnings.simplefilter("ignore")
        yield


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, not {text!r}")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 up to but not including 1, not {text!r}")
    return share


def _parsers() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    parser = argparse.ArgumentParser(
        prog="pgtune",
        description="Fine-tune PaliGemma and PaliGemma 2 from a YAML recipe.",
        epilog="A recipe is a file or a shipped name. `pgtune VERB --help` shows a verb's options and an example.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pgtune {__version__}")
    group = parser.add_subparsers(title="verbs", metavar="VERB", dest="verb")
    verbs: dict[str, argparse.ArgumentParser] = {}

    def verb(name: str, run: Verb, summary: str, example: str) -> argparse.ArgumentParser:
        added = group.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
        added.add_argument("--debug", action="store_true", help="show the traceback of an error and library warnings")
        added.set_defaults(run=run)
        verbs[name] = added
        return added

    def recipe_arguments(added: argparse.ArgumentParser) -> None:
        added.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a shipped recipe")
        added.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="override, such as train.max_steps=10")

    def processes(added: argparse.ArgumentParser) -> None:
        text = "share the work among N processes of this machine, each with a GPU of its own where there are any"
        added.add_argument("--processes", dest="ranks", type=_count, default=1, metavar="N", help=text)

    added = verb("recipes", commands.recipes, "list the shipped recipes", "pgtune recipes")
    added.add_argument("--keys", action="store_true", help="list every key of a recipe with its help instead")
    added.add_argument("--schema", action="store_true", help="print the JSON schema of a recipe, for editors, instead")
    added = verb("show", commands.show, "print a recipe's text", "pgtune show forkme > mine.yaml")
    added.add_argument("recipe", metavar="NAME", help="the name of a shipped recipe, or a file")
    added = verb(
        "validate",
        commands.validate,
        "check all of a recipe that needs no model",
        "pgtune validate mine.yaml lora.rank=8 'eval.metrics=[exact_match, anls]'",
    )
    recipe_arguments(added)
    added = verb(
        "init",
        commands.init,
        "look at a folder of data and write a recipe for it",
        "pgtune init scans/ --out scans.yaml",
    )
    added.add_argument("folder", metavar="FOLDER", help="your data")
    added.add_argument("--out", metavar="F.yaml", help="the recipe to write (default: the folder's name)")
    added.add_argument("--base", metavar="BASE", help="the base model (default: google/paligemma2-3b-pt-224)")
    added.add_argument("--method", choices=("lora", "qlora", "full"), default="lora", help="default: lora")
    added.add_argument("--kind", help="which kind to take where several are found (default: the first named)")
    added = verb(
        "audit",
        commands.audit,
        "look for leaks between the splits, odd prompts and answers that do not fit",
        "pgtune audit mine.yaml",
    )
    recipe_arguments(added)
    added.add_argument("--no-pictures", action="store_true", help="do not decode and compare the pictures: faster")
    verb("adapters", commands.adapters, "list the data adapters", "pgtune adapters")
    added = verb(
        "adapt",
        commands.adapt,
        "write what a data adapter reads as JSON Lines",
        "pgtune adapt jsonl notes/ --split train --limit 100 --out notes.jsonl",
    )
    added.add_argument("adapter", metavar="ADAPTER", help="a name from `pgtune adapters`, or module:attribute")
    added.add_argument("source", metavar="SOURCE", help="a file or folder")
    added.add_argument("--out", metavar="F.jsonl", required=True, help="the file to write")
    added.add_argument("--split", default="all", help="the split to read (default: all)")
    added.add_argument("--limit", type=_count, metavar="N", help="only the first N examples")
    added.add_argument("--root", metavar="DIR", help="images may lie anywhere below this folder")
    added.add_argument("--processes", type=_count, default=1, metavar="N", help="share the work (default: 1)")
    added.add_argument(
        "--max-bad-share",
        type=_share,
        default=0.0,
        metavar="S",
        help="leave out bad rows up to this share, such as 0.01 (default: 0, one ends it)",
    )
    added.add_argument("--arg", action="append", default=[], metavar="KEY=VALUE", help="argument of the data adapter")
    added = verb(
        "preview",
        commands.preview,
        "show what the model will see and learn",
        "pgtune preview mine.yaml -n 5 --split test",
    )
    recipe_arguments(added)
    added.add_argument("-n", type=_count, default=3, metavar="N", help="examples to show, in file order (default: 3)")
    added.add_argument("--split", choices=("train", "validation", "test"), default="train", help="default: train")
    added = verb(
        "plan",
        commands.plan,
        "say what a recipe will need before anything is loaded: memory, steps, operations",
        "pgtune plan remote_sensing/rsvqa_lr_224_qlora --memory 8GB",
    )
    recipe_arguments(added)
    added.add_argument("--memory", metavar="SIZE", help="of one device, such as 24GB (default: this machine's GPU)")
    added.add_argument("--devices", type=_count, default=1, metavar="N", help="share the work (default: 1)")
    added.add_argument("--device", choices=("gpu", "cpu"), default="gpu", help="what it will run on (default: gpu)")
    added = verb(
        "train",
        commands.train,
        "train by a recipe, scored before and after",
        "pgtune train quickstart train.max_steps=20",
    )
    recipe_arguments(added)
    added.add_argument("--resume", action="store_true", help="go on with an unfinished run; leave a finished one")
    added.add_argument("--overwrite", action="store_true", help="replace a run that is in output_dir")
    processes(added)
    run = "a run folder, or the id of a pushed run on the Hub: org/name, org/name@revision"
    allow_code = "let a pushed or merged run import the module:attribute that its recipe names as data adapter"
    added = verb("evaluate", commands.evaluate, "score a finished run", "pgtune evaluate runs/mine --split validation")
    added.add_argument("folder", metavar="RUN", help=run)
    added.add_argument("--allow-code", action="store_true", help=allow_code)
    added.add_argument("--split", default="test", help="train, validation or test of the run's recipe (default: test)")
    added.add_argument("--source", help="score on this file or folder instead")
    added.add_argument("--limit", type=_count, metavar="N", help="only the first N examples")
    added.add_argument("--batch-size", type=_count, metavar="N", help="examples decoded at once")
    processes(added)
    added = verb(
        "predict",
        commands.predict,
        "answer for one example or many",
        "pgtune predict runs/mine --image photo.png --prefix 'what is shown?'",
    )
    added.add_argument("folder", metavar="RUN", help=run)
    added.add_argument("--allow-code", action="store_true", help=allow_code)
    added.add_argument("--image", nargs="+", metavar="F", help="the images of one example")
    added.add_argument("--prefix", help="the prompt; with --input, of every image")
    added.add_argument("--input", metavar="FOLDER|GLOB|F", help="many examples: pictures, rows, scenes")
    added.add_argument(
        "--out",
        metavar="F.jsonl|F.csv|F",
        help="where the answers to --input go, and go on; or in a form of the data adapter's, such as F.geojson",
    )
    added.add_argument("--batch-size", type=_count, metavar="N", help="examples decoded at once")
    added.add_argument("--max-new-tokens", type=_count, metavar="N", help="longest answer (default: the recipe's)")
    processes(added)
    added = verb(
        "merge",
        commands.merge,
        "write base and adapter as one model that any library loads",
        "pgtune merge runs/mine merged/mine --dtype bfloat16",
    )
    added.add_argument("folder", metavar="RUN", help="a run folder")
    added.add_argument("out", metavar="OUT", help="the folder to write")
    added.add_argument("--dtype", choices=("bfloat16", "float32"), help="default: what the base is stored in")
    added.add_argument("--quantize", choices=("int8", "nf4"), help="make it smaller after merging, with bitsandbytes")
    added.add_argument("--overwrite", action="store_true", help="replace a merged model that is in OUT")
    base = "the base on the Hub, where the run's base is a folder"
    added = verb(
        "report",
        commands.report,
        "write a run as one HTML page: scores, curves, examples worst first",
        "pgtune report runs/mine --out mine.html",
    )
    added.add_argument("folder", metavar="RUN", help=run)
    added.add_argument("--out", metavar="F.html", help="the file to write (default: report.html in the run folder)")
    added.add_argument("--limit", type=_count, default=200, metavar="N", help="at most N examples (default: 200)")
    added = verb("push", commands.push, "push a finished run to the Hugging Face Hub", "pgtune push runs/mine org/name")
    added.add_argument("folder", metavar="RUN", help="a run folder")
    added.add_argument("repo", metavar="ORG/NAME", help="the repo; made where it is not there")
    added.add_argument("--private", action="store_true", help="make it a private repo")
    added.add_argument("--tag", metavar="TAG", help="a tag for the commit, such as v1")
    added.add_argument("--merged", action="store_true", help="the adapter merged into its base: all weights")
    added.add_argument("--with-examples", action="store_true", help="show rows of the data: prompts, answers, pictures")
    added.add_argument("--dry-run", action="store_true", help="show every file and the card, and ask the Hub nothing")
    added.add_argument("--base", metavar="ORG/NAME[@REVISION]", help=base)
    added = verb("card", commands.card, "write the model card of a finished run", "pgtune card runs/mine --out C.md")
    added.add_argument("folder", metavar="RUN", help="a run folder")
    added.add_argument("--out", metavar="F.md", help="the file to write (default: print it)")
    added.add_argument("--base", metavar="ORG/NAME[@REVISION]", help=base)
    added.add_argument("--with-examples", action="store_true", help="show rows of the data")
    width = max(map(len, METRIC_HELP))
    added = verb(
        "score", commands.score, "compute metrics on predictions", "pgtune score cider,bleu,rouge_l predictions.jsonl"
    )
    added.epilog = f"{added.epilog}\n\nmetrics:\n" + "\n".join(
        f"  {name:{width}}  {text}" for name, text in sorted(METRIC_HELP.items())
    )
    added.add_argument("metric", metavar="METRIC", help="the name of a metric, or several with commas between")
    added.add_argument(
        "file",
        metavar="F.jsonl",
        help='rows {"prediction": "...", "references": ["...", ...]}, part, question_type, cluster and score if any',
    )
    verb("doctor", commands.doctor, "print versions and devices and run the self-tests", "pgtune doctor")
    return parser, verbs
