"""The report of the demonstration: a single HTML file that loads nothing else."""

from __future__ import annotations

import base64
import datetime
import hashlib
import os
import platform
import re
from pathlib import Path

import jinja2
from markupsafe import Markup

from demo.outcome import Outcome, goal, number, shown
from scenarios import Figure
from tooling import envs

HERE = Path(__file__).parent
PINNED = ("aws-cdk-lib", "snowflake-connector-python", "ministack", "fakesnow", "xgboost-cpu")
"""Packages whose versions the report lists."""
LOCKS = ("requirements.txt", "local/**/requirements.txt", "containers/*/*/requirements.txt")
"""Lock files with the packages in `PINNED`. The report shows the version from the first file that lists the
package."""
BITMAPS = {".png": "image/png", ".webp": "image/webp"}
"""Media types of pictures other than SVG, by suffix."""


def write_report(outcomes: list[Outcome], path: Path) -> Path:
    """Write the report of `outcomes` to `path`, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals.update(number=number, goal=goal, picture=picture, shown=shown)
    page = templates.get_template("report.html.j2").render(
        outcomes=outcomes,
        ok=all(outcome.status == "ok" for outcome in outcomes),
        made=datetime.datetime.now().astimezone().strftime("%-d %B %Y, %H:%M %Z"),
        machine=machine(),
        folder=path.parent,
    )
    path.write_text(page)
    return path


def picture(figure: Figure) -> Markup:
    """Return a figure's picture as HTML."""
    return bitmap(figure) if figure.path.suffix in BITMAPS else drawing(figure)


def bitmap(figure: Figure) -> Markup:
    """Return HTML with a figure's PNG or WebP picture, and with its picture for dark mode if it has one."""
    dark = '<source media="(prefers-color-scheme: dark)" srcset="{}">' if figure.dark else ""
    both = Markup(f'<picture>{dark}<img src="{{}}" alt="{{}}"></picture>')  # noqa: S704
    return both.format(*map(data_url, filter(None, (figure.dark, figure.path))), figure.alt)


def data_url(path: Path) -> str:
    return f"data:{BITMAPS[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def drawing(figure: Figure) -> Markup:
    """Return a figure's SVG for embedding in the page, with the page's colours and unique ids."""
    from scenarios.drawing import PALETTE

    svg = figure.path.read_text()
    svg = svg[svg.index("<svg") :]
    for name, color in PALETTE.items():
        svg = svg.replace(color, f"var(--figure-{name})")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Ids must be unique in the page: ids that are referred to get a prefix, the others are removed. A colour
    # such as "#ffffff" must not be taken for a reference.
    used = set(re.findall(r"#([\w.-]+)[\")]", svg)) & set(re.findall(r' id="([^"]*)"', svg))
    own = hashlib.sha256(str(figure.path).encode()).hexdigest()[:8]
    svg = re.sub(r' id="([^"]*)"', lambda found: f' id="{own}-{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(
        r"#([\w.-]+)([\")])",
        lambda found: f"#{own}-{found[1]}{found[2]}" if found[1] in used else found[0],
        svg,
    )
    label = Markup.escape(figure.alt)
    return Markup(re.sub(r"<svg\b", f'<svg role="img" aria-label="{label}"', svg, count=1))  # noqa: S704


def machine() -> dict[str, str]:
    """Return facts about the machine and versions of packages."""
    facts = {
        "Processor": f"{processor()}, {os.cpu_count()} cores",
        "Memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "System": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
    }
    locks = "".join(path.read_text() for pattern in LOCKS for path in sorted(envs.ROOT.glob(pattern)))
    for package in PINNED:
        pinned = re.search(rf"^{re.escape(package)}(?:\[[^]]*\])?==(\S+)", locks, flags=re.MULTILINE)
        if pinned:
            facts[package] = pinned[1]
    return facts


def processor() -> str:
    """Return the processor's model name; if it is unknown, the machine type, such as `x86_64`."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()
