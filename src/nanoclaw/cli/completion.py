"""`nanoclaw completion SHELL`: completion of the verbs and their options."""

from __future__ import annotations

import click

from nanoclaw.admin.completion import SHELLS, SHORT, print_script
from nanoclaw.cli import verbs


@click.command("completion", short_help=SHORT)
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> int:
    """Print what makes SHELL complete the verbs and their options.

    bash: nanoclaw completion bash > ~/.local/share/bash-completion/completions/nanoclaw

    zsh: eval "$(nanoclaw completion zsh)" in ~/.zshrc

    fish: nanoclaw completion fish > ~/.config/fish/completions/nanoclaw.fish
    """
    return print_script(verbs.nanoclaw, "nanoclaw", shell)
