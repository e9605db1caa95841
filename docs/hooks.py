"""What pages of the site take from the package: names, commands, errors, the changelog.

In a page, a line ``{{ what }}`` is replaced by what the function of that name gives when the site
is built, so that nothing here has to be kept true by hand.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parent.parent
_GROUPS = {
    "read": "Reading", "write": "Writing", "store": "Zarr arrays", "jobs": "Jobs",
    "view": "Looking", "core": "Values",
}  # fmt: skip


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the marks of a page in."""
    return re.sub(r"^\{\{ (\w+) \}\}$", lambda m: MARKS[m[1]](), markdown, flags=re.MULTILINE)


def on_page_content(html: str, **_: Any) -> str:
    """Make links of what docstrings name by a role, ``:func:`~scout_dask_io.verify```."""
    anchors = {at.rpartition(".")[2]: at for at in re.findall(r'id="(scout_dask_io[\w.]+)"', html)}

    def link(found: re.Match[str]) -> str:
        name = found[1].rpartition(".")[2]
        shown = f"<code>{name}</code>"
        return f'<a href="#{anchors[name]}">{shown}</a>' if name in anchors else shown

    return re.sub(r":(?:func|class|meth|mod):<code>~?([\w.]+)</code>", link, html)


def names() -> str:
    """Give the public names, a heading a room."""
    import scout_dask_io

    lines: list[str] = []
    for room, title in _GROUPS.items():
        lines += [f"## {title}", ""]
        for home, found in sorted(scout_dask_io._HOMES.items()):
            if home.split(".")[0] == room:
                lines += [
                    line for n in sorted(found) for line in (f"::: scout_dask_io.{home}.{n}", "")
                ]
    return "\n".join(lines)


def errors() -> str:
    """Give each error with the built-in ones that it is."""
    import scout_dask_io as io
    from scout_dask_io import errors as module

    rows = ["| error | is also | when |", "|---|---|---|"]
    for name in sorted(n for n in dir(io) if n.endswith("Error")):
        error = getattr(module, name)
        also = [b.__name__ for b in error.__mro__[1:] if b.__module__ == "builtins"]
        also = [n for n in also if n not in ("Exception", "BaseException", "object")]
        rows.append(f"| `{name}` | {', '.join(f'`{n}`' for n in also[:1])} | {error.__doc__} |")
    return "\n".join(rows)


def commands() -> str:
    """Give each command: its help, its options, one line of JSON where to find it."""
    import click

    from scout_dask_io.cli import cli

    parts = []
    for name, command in sorted(cli.commands.items()):
        # click keeps an option -h/--help a command, of the first context that asks for it.
        settings = cli.context_settings
        context = click.Context(command, info_name=f"scout-dask-io {name}", **settings)
        about, _, examples = (command.help or "").replace("\b", "").partition("For example:")
        usage = " ".join(command.collect_usage_pieces(context))
        parts += [f"## {name}", "", f"`scout-dask-io {name} {usage}`", "", about.strip(), ""]
        parts += ["```text", *(line.strip() for line in examples.strip().splitlines()), "```", ""]
        parts += ["| option | |", "|---|---|"]
        for option in command.params:
            record = option.get_help_record(context) if isinstance(option, click.Option) else None
            if record is not None:
                cells = (part.replace("|", "\\|").replace("<", "&lt;") for part in record)
                first, second = cells
                parts.append(f"| `{first}` | {second} |")
        parts.append("")
    return "\n".join(parts)


def changelog() -> str:
    """Give the changelog, without its heading."""
    return (REPO / "CHANGELOG.md").read_text(encoding="utf8").partition("\n")[2]


def figures() -> str:
    """Give all figures of the benchmarks, a level lower, without pictures."""
    text = (REPO / "benchmarks" / "results" / "results-full.md").read_text(encoding="utf8")
    text = re.sub(r"^!\[.*$", "", text.partition("\n")[2], flags=re.MULTILINE)
    return re.sub(r"^#", "##", text, flags=re.MULTILINE)


def _of_the_readme(heading: str, begin: str) -> str:
    """Give what stands below a heading of the README, from a sentence to its table's end."""
    section = (REPO / "README.md").read_text(encoding="utf8").split(f"\n## {heading}\n")[1]
    section = section[section.index(begin) :].split("\n## ")[0]
    return section[: section.rindex("|\n") + 1]


def speed() -> str:
    """Give the README's table of speed."""
    return _of_the_readme("Speed", "192 planes")


def trust() -> str:
    """Give the README's table of what was done on purpose, and what came of it."""
    return _of_the_readme("Trust", "`python -m tests.reliability`")


MARKS = {f.__name__: f for f in (names, errors, commands, changelog, figures, speed, trust)}
