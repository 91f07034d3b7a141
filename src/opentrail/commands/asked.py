"""The commands that ask one question each, from its declaration in `opentrail.questions`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from opentrail.commands.arguments import add_client
from opentrail.commands.client import find
from opentrail.commands.progress import call_progress
from opentrail.commands.rendering import (
    print_answer,
    print_fields,
    print_json,
    print_naming_hint,
    print_table,
    warn_of_missing,
    warn_of_nearest,
    warn_of_types,
)
from opentrail.core.text import printable
from opentrail.questions.question import load, parameters, path_of, required

if TYPE_CHECKING:
    from opentrail.questions.explain import ExplainedDenial
    from opentrail.questions.timeline import Timeline
    from opentrail.questions.who import WhoAnswer


def add_question(command: argparse.ArgumentParser, name: str) -> None:
    """Adds the arguments of a question: required ones by position, others as flags.

    Sets `run`, which prints the answer as JSON, or as fields and tables.
    """
    question = load(name)
    command.description = f"{question.purpose}."
    needed = required(question)
    for argument, schema in parameters(question).items():
        kind = schema.get("type")
        sent = question.defaults.get(argument)
        shown = sent or schema.get("default")
        default = f" ({shown})" if shown not in (None, False) else ""
        described: Any = {"help": f"{schema.get('description', '')}{default}".replace("%", "%%")}
        metavar = argument.upper()
        if kind == "boolean":
            command.add_argument(_flag(argument), dest=argument, action="store_true", **described)
        elif argument in needed:
            command.add_argument(argument, metavar=metavar, **described)
        else:
            choices: Any = {"choices": schema["enum"]} if "enum" in schema else {"metavar": metavar}
            described["default"] = sent
            command.add_argument(_flag(argument), dest=argument, **choices, **described)
    add_client(command)
    command.set_defaults(run=_RUNS.get(name, partial(run, name)))


def _flag(argument: str) -> str:
    return f"--{_words(argument).replace(' ', '-')}"


def run(name: str, options: argparse.Namespace) -> int:
    """Prints the answer; the exit code is 0."""
    answer = answer_to(name, options)
    if options.json:
        print_json(answer)
        return 0
    warn_of_missing(answer)
    print_plain({member: value for member, value in answer.items() if member != "missing"})
    return 0


def answer_to(name: str, options: argparse.Namespace) -> Any:
    """Returns the server's answer to a question with the user's arguments.

    Raises:
        OpentrailError: as `Console.ask`.
    """
    question, path = load(name), f"/api/v1{path_of(name)}"
    given = {argument: getattr(options, argument) for argument in question.__struct_fields__}
    if question.body:
        query, body = {}, {name: value for name, value in given.items() if value is not None}
    else:
        query, body = {argument: _sent(value) for argument, value in given.items()}, None
    if not question.is_followed:
        return find(options).ask(path, query, body)
    with call_progress("events") as progress:
        return find(options).ask(path, query, body, on_progress=progress.reach)


def _sent(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else None
    return None if value is None else str(value)


def print_plain(answer: Mapping[str, Any]) -> None:
    """Prints an answer: fields first, then each list of objects as a table."""
    tables = {name: value for name, value in answer.items() if _is_table(value)}
    fields = {name: value for name, value in answer.items() if name not in tables}
    print_fields({_words(name): _shown(value) for name, value in fields.items()})
    for name, rows in tables.items():
        columns = list(rows[0]) if rows else []
        if not rows:
            print(f"no {_words(name)}")
            continue
        cells = [[_shown(row[column]) or "" for column in columns] for row in rows]
        print_table([_words(column).capitalize() for column in columns], cells)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _words(name: str) -> str:
    """Returns the name of a member in words.

    >>> _words("accessKeyId")
    'access key id'
    """
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name)


def _shown(value: Any) -> str | None:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(str, value)) or None
    return None if value is None else str(value)


# Answers with their own form


def run_explain(options: argparse.Namespace) -> int:
    """Prints why a call was denied; the exit code is 1 if it was not denied."""
    denial: ExplainedDenial = answer_to("explain", options)
    if options.json:
        print_json(denial)
    else:
        _print_explain(denial)
    return 1 if denial["verdict"] == "not denied" else 0


def _print_explain(denial: ExplainedDenial) -> None:
    out = sys.stdout.write
    out(f"{printable(denial['sentence'])}.\n\n")
    if denial["verdict"] == "not denied":
        out("It was not denied.\n")
        return
    decided = f" ({denial['policyType']})" if denial["policyType"] else ""
    out(f"  verdict   {denial['verdict']}{decided}\n")
    out(f"  action    {denial['action'] or 'not known'}\n")
    if denial["resource"]:
        out(f"  resource  {printable(denial['resource'])}\n")
    if denial["errorMessage"]:
        out(f"  message   {printable(denial['errorMessage'])}\n")
    out("\n")
    for text in denial["missing"]:
        out(f"- {text}\n")


def run_who(options: argparse.Namespace) -> int:
    """Prints a sentence with its evidence; the exit code is 1 if no record shows the creator."""
    answer: WhoAnswer = answer_to("who", options)
    warn_of_missing(answer)
    warn_of_nearest(answer)
    warn_of_types(answer, options.type)
    if options.json:
        print_json(answer)
    else:
        print_answer(answer, options.resource)
    if "an unknown caller" in (answer["sentence"] or ""):
        print_naming_hint()
    return 0 if answer["sentence"] else 1


def run_timeline(options: argparse.Namespace) -> int:
    """Prints a timeline, oldest first; the exit code is 1 without events."""
    timeline: Timeline = answer_to("timeline", options)
    warn_of_missing(timeline)
    if options.json:
        print_json(timeline)
    else:
        _print_timeline(timeline)
    return 0 if timeline["entries"] else 1


def _print_timeline(timeline: Timeline) -> None:
    out = sys.stdout.write
    entries = timeline["entries"]
    if not entries:
        out(f"No event is about {printable(timeline['name'])}.\n")
        return
    day = ""
    for entry in entries:
        if entry["first"][:10] != day:
            day = entry["first"][:10]
            out(f"{day} (UTC)\n")
        out(f"  {_period(entry['first'], entry['last'])}  {printable(entry['words'])}\n")
        agent = entry["agent"]
        if agent and agent["name"] not in entry["words"]:
            out(f"  {'':17}  agent: {printable(agent['name'])}\n")
        if entry["behind"]:
            out(f"  {'':17}  behind it: {printable(entry['behind'])}\n")
    if not timeline["complete"]:
        until = f"{entries[0]['first']}"
        sys.stderr.write(f"these are the newest events; older ones: --until {until}\n")


def _period(first: str, last: str) -> str:
    """Returns start and end of calls in 17 characters: `09:00:00-09:14:59`."""
    if first == last:
        return f"{first[11:19]:17}"
    return f"{first[11:19]}-{last[11:19]}"


#: Questions whose answers have their own printed form.
_RUNS = {"explain": run_explain, "timeline": run_timeline, "who": run_who}
add_explain_arguments = partial(add_question, name="explain")
add_timeline_arguments = partial(add_question, name="timeline")
add_who_arguments = partial(add_question, name="who")
