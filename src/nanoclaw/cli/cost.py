"""`nanoclaw cost`: what was spent, by whom and on what; limits; prices of one's own. Works with no host running."""

from __future__ import annotations

from collections.abc import Iterable

import click

from nanoclaw.admin.ask import ask, json_option, show_table
from nanoclaw.admin.request import Request
from nanoclaw.admin.table import Cell, Table
from nanoclaw.cli.gateway_link import open_gateway
from nanoclaw.cli.names import find_names
from nanoclaw.cli.since import parse_since
from nanoclaw.clock import SystemClock
from nanoclaw.config import Config, load_config
from nanoclaw.errors import OperatorError
from nanoclaw.gateway import admin_words

WAYS = ("group", "person", "task", "model", "day")
FIGURES = ("calls", "input", "output", "cache_read", "cache_write", "cost", "cost_micros", "estimated_calls")
HIDDEN = ("id", "cost_micros", "estimated_calls")
DOLLAR = 1_000_000
MOST_DOLLARS = 1_000_000_000


@click.group("cost", invoke_without_command=True)
@click.option("--by", type=click.Choice(WAYS), default="group", show_default=True, help="What to add up by.")
@click.option("--since", default="month", show_default=True, help="12h, 7d, 4w, today, month, 2026-01-31 or all.")
@json_option
@click.pass_context
def command(context: click.Context, by: str, since: str, as_json: bool) -> int:
    """Show what models have cost, and limit it.

    An amount with ~ is an estimate in part: an answer did not say what it used, or nobody knows the model's price.
    """
    if context.invoked_subcommand is not None:
        return 0
    config = load_config()
    since_at = parse_since(since, SystemClock().now_ms(), config.timezone)
    with open_gateway(config) as gateway:
        lines = gateway.ask(admin_words.CostReport(by, since_at), list[admin_words.CostLine])
    names = find_names(config, by)
    rows = [(names.get(line.key) or _unnamed(line), line.key, *_figures(line)) for line in lines]
    if not as_json and len(rows) > 1:
        rows.append(("all together", "", *_figures(_total(lines))))
    show_table(Table((by, "id", *FIGURES), tuple(rows), hidden=HIDDEN), config.timezone, as_json=as_json)
    return 0


def _figures(line: admin_words.CostLine) -> tuple[Cell, ...]:
    return (
        line.calls,
        line.input_tokens,
        line.output_tokens,
        line.cache_read_tokens,
        line.cache_write_tokens,
        ("~" if line.estimated else "") + show_money(line.cost_micros),
        line.cost_micros,
        line.estimated,
    )


def _total(lines: Iterable[admin_words.CostLine]) -> admin_words.CostLine:
    names = admin_words.CostLine.__struct_fields__[2:]
    return admin_words.CostLine("", "", *(sum(getattr(line, name) for line in lines) for name in names))


def _unnamed(line: admin_words.CostLine) -> str:
    """Return what stands for somebody or something that the store does not know any more."""
    return line.folder or line.key or "unknown"


def owner_options(body: click.decorators.FC) -> click.decorators.FC:
    """Give a command `--group`, `--person` and `--all`: whose limit it is about."""
    for option in (
        click.option("--all", "everything", is_flag=True, help="Of all agents together."),
        click.option("--person", help="Of a person: an id, the beginning of one, a name, or channel:handle."),
        click.option("--group", help="Of an agent: its folder, name or id."),
    ):
        body = option(body)
    return body


@command.command("limit")
@owner_options
@click.option("--day", type=click.FloatRange(0, MOST_DOLLARS), help="US dollars a day.")
@click.option("--month", type=click.FloatRange(0, MOST_DOLLARS), help="US dollars a month.")
@click.option("--day-tokens", type=click.IntRange(0), help="Tokens a day, cached ones included.")
@click.option("--month-tokens", type=click.IntRange(0), help="Tokens a month.")
def limit(
    group: str | None,
    person: str | None,
    everything: bool,
    **amounts: float | None,
) -> int:
    """Limit what an agent, a person or all together may spend. What is not given stays as it is.

    A call that would exceed a limit is refused before it is made. Days and months are those of your time zone.
    """
    if all(amount is None for amount in amounts.values()):
        raise click.UsageError("say how much: --day, --month, --day-tokens or --month-tokens")
    config = load_config()
    scope, name, words = _find_owner(config, group, person, everything)
    request = admin_words.BudgetSet(
        scope,
        name,
        day_micros=_micros(amounts["day"]),
        month_micros=_micros(amounts["month"]),
        day_tokens=_whole(amounts["day_tokens"]),
        month_tokens=_whole(amounts["month_tokens"]),
    )
    with open_gateway(config) as gateway:
        gateway.ask(request, bool)
    print(f"Limited: {words}")
    return 0


@command.command("nolimit")
@owner_options
@click.option("--day", "period", flag_value="day", help="Only the limits of a day.")
@click.option("--month", "period", flag_value="month", help="Only the limits of a month.")
def nolimit(group: str | None, person: str | None, everything: bool, period: str | None) -> int:
    """Take limits away. Exit 1 when there was none."""
    config = load_config()
    scope, name, words = _find_owner(config, group, person, everything)
    with open_gateway(config) as gateway:
        removed = gateway.ask(admin_words.BudgetRemove(scope, name, period or ""), int)
    print(f"No limit any more: {words}" if removed else f"There was no limit: {words}")
    return 0 if removed else 1


@command.command("limits")
@json_option
def limits(as_json: bool) -> int:
    """List every limit, and what of it is spent."""
    config = load_config()
    with open_gateway(config) as gateway:
        lines = gateway.ask(admin_words.BudgetList(), list[admin_words.BudgetLine])
    people = find_names(config, "person") if any(line.scope == "person" for line in lines) else {}
    columns = ("for", "whose", "period", "spent", "limit", "spent_tokens", "limit_tokens", "opens_at", "spent_micros")
    rows = tuple(_limit_row(line, people) for line in lines)
    note = "" if rows else "No limit is set. `nanoclaw cost limit --all --month 50` sets one, in US dollars."
    show_table(Table(columns, rows, note, hidden=("spent_micros",)), config.timezone, as_json=as_json)
    return 0


def _limit_row(line: admin_words.BudgetLine, people: dict[str, str]) -> tuple[Cell, ...]:
    return (
        line.scope,
        people.get(line.name, line.name) or "all together",
        line.period,
        show_money(line.spent_micros),
        None if line.limit_micros is None else show_money(line.limit_micros),
        line.spent_tokens,
        line.limit_tokens,
        line.opens_at,
        line.spent_micros,
    )


@command.command("price")
@click.argument("model")
@click.option(
    "--input",
    "input_",
    type=click.FloatRange(0, MOST_DOLLARS),
    required=True,
    help="US dollars for a million tokens read.",
)
@click.option(
    "--output", type=click.FloatRange(0, MOST_DOLLARS), required=True, help="US dollars for a million tokens written."
)
@click.option(
    "--cache-read",
    type=click.FloatRange(0, MOST_DOLLARS),
    help="For a million read from a cache. [default: as --input]",
)
@click.option(
    "--cache-write",
    type=click.FloatRange(0, MOST_DOLLARS),
    help="For a million put into a cache. [default: as --input]",
)
@click.option(
    "--cache-write-1h", type=click.FloatRange(0, MOST_DOLLARS), help="For an hour. [default: as --cache-write]"
)
def price(model: str, input_: float, output: float, **cached: float | None) -> int:
    """Set what MODEL costs; a last * stands for any rest. 0 and 0 make it free."""
    read, write, hour = cached["cache_read"], cached["cache_write"], cached["cache_write_1h"]
    write = input_ if write is None else write
    prices = (input_, output, input_ if read is None else read, write, write if hour is None else hour)
    with open_gateway(load_config()) as gateway:
        gateway.ask(admin_words.PriceSet(model, *(round(amount * DOLLAR) for amount in prices)), bool)
    print(f"Kept: {model}")
    return 0


@command.command("noprice")
@click.argument("model")
def noprice(model: str) -> int:
    """Forget a price of your own: the one we ship holds again."""
    with open_gateway(load_config()) as gateway:
        gateway.ask(admin_words.PriceRemove(model), bool)
    print(f"Forgotten: {model}")
    return 0


@command.command("prices")
@json_option
def prices(as_json: bool) -> int:
    """List every price, in US dollars for a million tokens; the first that fits a model's name counts."""
    config = load_config()
    with open_gateway(config) as gateway:
        lines = gateway.ask(admin_words.PriceList(), list[admin_words.PriceLine])
    columns = ("model", "input", "output", "cache_read", "cache_write", "cache_write_1h", "above_tokens", "source")
    rows = tuple(
        (
            line.model,
            *(
                f"{amount / DOLLAR:g}"
                for amount in (line.input, line.output, line.cache_read, line.cache_write, line.cache_write_1h)
            ),
            line.above or None,
            line.source,
        )
        for line in lines
    )
    show_table(Table(columns, rows), config.timezone, as_json=as_json)
    return 0


def show_money(micros: int) -> str:
    """Return an amount for a table: cents, and below a cent as exactly as it takes."""
    if micros == 0 or micros >= DOLLAR // 100:
        return f"${micros / DOLLAR:,.2f}"
    return f"${micros / DOLLAR:.6f}".rstrip("0")


def _find_owner(config: Config, group: str | None, person: str | None, everything: bool) -> tuple[str, str, str]:
    """Return scope, name as the gateway knows it, and words. Raises UsageError or the store's refusal."""
    if (group is not None) + (person is not None) + everything != 1:
        raise click.UsageError("say whose: --group, --person or --all")
    if group is not None:
        row = _get(config, "groups", group)
        return "group", str(row["folder"]), f"{row['name']} ({row['folder']})"
    if person is not None:
        row = _get(config, "users", person)
        return "person", str(row["id"]), str(row["name"])
    return "all", "", "all agents together"


def _get(config: Config, noun: str, text: str) -> dict[str, Cell]:
    table, _ = ask(config.paths, Request(noun, "get", text))
    if not table.rows:
        raise OperatorError(f"There is no {text} among the {noun}.")
    return dict(zip(table.columns, table.rows[0], strict=True))


def _micros(dollars: float | None) -> int | None:
    return None if dollars is None else round(dollars * DOLLAR)


def _whole(tokens: float | None) -> int | None:
    return None if tokens is None else int(tokens)
