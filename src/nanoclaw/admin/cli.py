"""The entry of `ncl`: click commands made from the table of verbs; a noun's are made when it is asked for."""

from __future__ import annotations

import sys
from typing import Any

import click

from nanoclaw.admin.ask import show_answer
from nanoclaw.admin.catalog import NOUNS
from nanoclaw.admin.command_line import run_command
from nanoclaw.admin.completion import SHELLS, SHORT, completion_of, print_script
from nanoclaw.admin.isolation import ask_isolation
from nanoclaw.admin.request import Given, Request
from nanoclaw.admin.verb import Access, Kind, Noun, Value, Verb
from nanoclaw.config import load_config

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
LAST = "Every verb has --help; those that show something have --json: one array."


def main() -> int:
    """Run `ncl` and return its exit code: 0 done, 1 refused or failed, 2 usage."""
    return run_command(ncl, "ncl", sys.argv[1:])


class Nouns(click.Group):
    """The nouns of the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the nouns in the order of the table."""
        return [*(noun.name for noun in NOUNS), *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Make a noun's commands."""
        noun = next((noun for noun in NOUNS if noun.name == cmd_name), None)
        return super().get_command(ctx, cmd_name) if noun is None else build_noun(noun)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of nouns."""
        with formatter.section("Resources"):
            formatter.write_dl([(noun.name, noun.words) for noun in NOUNS])
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.commands[name].get_short_help_str(80)) for name in self.commands])


@click.group(cls=Nouns, context_settings=CONTEXT, epilog=LAST)
@click.version_option(package_name="nanoclaw", message="ncl %(version)s")
def ncl() -> None:
    """Look at what a host holds, and change it: `ncl RESOURCE VERB [ID]`.

    An ID may be the beginning of one, or a name: `ncl groups get andy`.
    """


@ncl.command("completion", short_help=SHORT)
@click.argument("shell", type=click.Choice(SHELLS))
def complete(shell: str) -> int:
    """Print what makes SHELL complete commands, options, ids and names.

    bash: ncl completion bash > ~/.local/share/bash-completion/completions/ncl

    zsh: eval "$(ncl completion zsh)" in ~/.zshrc

    fish: ncl completion fish > ~/.config/fish/completions/ncl.fish
    """
    return print_script(ncl, "ncl", shell)


def build_noun(noun: Noun) -> click.Group:
    """Return the commands of a noun; a verb of two words lies in a group below it."""
    top = click.Group(noun.name, help=noun.words, context_settings=CONTEXT)
    for verb in noun.verbs:
        first, _, second = verb.name.partition(" ")
        if not second:
            top.add_command(build_verb(noun, verb, first))
            continue
        below = top.commands.get(first)
        if not isinstance(below, click.Group):
            below = click.Group(first, help=f"The {first} of one of the {noun.name}.", context_settings=CONTEXT)
            top.add_command(below)
        below.add_command(build_verb(noun, verb, second))
    return top


def build_verb(noun: Noun, verb: Verb, name: str) -> click.Command:
    """Return the command of a verb."""

    def run(as_json: bool = False, yes: bool = False, **given: Any) -> int:
        request = Request(noun.name, verb.name, _target(verb, given), _flags(verb, given))
        if verb.confirm and not yes and (not verb.confirm_when or verb.confirm_when in request.flags):
            _confirm(f"{request.id}: {verb.confirm}" if request.id else verb.confirm)
        config = load_config()
        if verb.name == "create" and noun.name == "wirings" and not as_json:
            request = ask_isolation(config.paths, request)
        show_answer(config, request, as_json=as_json, facts=verb.single)
        return 0

    parameters: list[click.Parameter] = []
    if verb.target is not None:
        parameters += _target_parameters(verb.target)
    parameters += [_option(value) for value in verb.options]
    if verb.confirm:
        parameters.append(click.Option(["--yes", "-y"], is_flag=True, help="Do not ask first."))
    parameters.append(click.Option(["--json", "as_json"], is_flag=True, help="Print JSON: one array."))
    notes = [verb.words, verb.details, "" if verb.access is Access.READ else "Needs a running host."]
    text = "\n\n".join(note for note in notes if note)
    return click.Command(name, params=parameters, callback=run, help=text, short_help=verb.words)


def _confirm(question: str) -> None:
    """Ask on a terminal. Raises Abort for a no, UsageError where nobody can answer."""
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody can answer that here: nothing was done. --yes answers it.")
    click.confirm(question, abort=True, err=True)


def _target_parameters(value: Value) -> list[click.Parameter]:
    """The target is written without its name; `--id ID`, as NanoClaw v2 has it, is understood too."""
    names = [f"--{value.name}", f"named_{_key(value)}"]
    return [
        click.Argument([_key(value)], required=False, shell_complete=completion_of(value)),
        click.Option(names, hidden=True),
    ]


def _option(value: Value) -> click.Option:
    kind: click.ParamType[Any] = click.STRING
    if value.kind is Kind.CHOICE:
        kind = click.Choice([str(choice) for choice in value.choices])  # of an enumeration click shows the names
    elif value.kind is Kind.INTEGER:
        kind = click.IntRange(value.least, value.most)
    return click.Option(
        [f"--{value.name}", _key(value)],
        type=None if value.kind is Kind.FLAG else kind,
        is_flag=value.kind is Kind.FLAG,
        multiple=value.repeated,
        required=value.required,
        default=value.default if value.default is not None else None,
        show_default=value.default is not None,
        help=value.words,
        shell_complete=completion_of(value) if value.refers else None,
    )


def _target(verb: Verb, given: dict[str, Any]) -> str | None:
    if verb.target is None:
        return None
    key = _key(verb.target)
    target = given.get(key) if given.get(key) is not None else given.get(f"named_{key}")
    if target is None and verb.target.required:
        raise click.UsageError(f"Missing argument '{verb.target.name.upper()}'. {verb.target.words}")
    return target


def _flags(verb: Verb, given: dict[str, Any]) -> dict[str, Given]:
    flags: dict[str, Given] = {}
    for value in verb.options:
        raw = given.get(_key(value))
        if raw is None or raw is False or raw == ():
            continue
        flags[value.name] = "true" if raw is True else [str(part) for part in raw] if value.repeated else str(raw)
    return flags


def _key(value: Value) -> str:
    return value.name.replace("-", "_")


if __name__ == "__main__":
    sys.exit(main())
