"""`report.html`: one file that shows what a sweep found, without scripts or anything elsewhere."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from distgan.sweeps import pictures
from distgan.sweeps.journal import CURVE, PERTURBATIONS, Journal
from distgan.sweeps.plan import Sweep
from distgan.sweeps.progress import number, short
from distgan.sweeps.results import BEST, Row, best, series

REPORT, PICTURES, CONFIRMED = "report.html", "pictures", "confirmed.json"
DPI = 130
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;
color:#1f2937;background:#fff}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin-top:2.2rem}
p.lead{color:#4b5563;margin-top:0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem}
th,td{padding:.25rem .7rem;text-align:right;border-bottom:1px solid #e5e7eb}
th{border-bottom:2px solid #9ca3af}td.text,th.text{text-align:left}
tr.best td{background:#fff1e6;font-weight:600}tr.failed td{color:#9ca3af}
td.why{max-width:26rem;font-size:.82rem;color:#6b7280;text-align:left}
img{max-width:100%;height:auto}pre{background:#f3f4f6;padding:.8rem;overflow-x:auto;font-size:.82rem}
figure{margin:1rem 0}figcaption{color:#6b7280;font-size:.85rem}
"""


def write(journal: Journal, sweep: Sweep, rows: Sequence[Row]) -> Path:
    """Draw everything into `pictures/` and put it together; the report's path."""
    folder = journal.folder
    curve = json.loads((folder / CURVE).read_text()) if (folder / CURVE).exists() else []
    (folder / PICTURES).mkdir(exist_ok=True)
    drawn = []
    for name, caption, figure in _figures(journal, sweep, rows, curve):
        if figure is not None:
            path = folder / PICTURES / f"{name}.png"
            FigureCanvasAgg(figure)
            figure.savefig(path, dpi=DPI)
            drawn.append(_embedded(path, caption))
    winner = best(rows, sweep)
    body = [
        f"<h1>{html.escape(folder.name)}</h1>",
        f'<p class="lead">{html.escape(_summary(sweep, rows))}</p>',
        *_confirmed(folder),
        *_winner(folder, sweep, winner),
        "<h2>Where it is good</h2>",
        *drawn,
        "<h2>All trials</h2>",
        _table(sweep, rows, winner),
        *_perturbations(journal),
    ]
    path = folder / REPORT
    head = f'<meta charset="utf-8"><title>{html.escape(folder.name)}</title><style>{STYLE}</style>'
    path.write_text(f"<!doctype html><html><head>{head}</head><body>{''.join(body)}</body></html>")
    return path


def differences(
    default: Sequence[Mapping[str, float]], winner: Sequence[Mapping[str, float]]
) -> dict[str, dict[str, Any]]:
    """By metric: both means, and the mean and spread of winner - default, seed by seed.

    Both list the same seeds in the same order; metrics that a run lacks are left out.
    """
    found = {}
    pairs = list(zip(default, winner, strict=True))
    for metric in default[0]:
        if not all(metric in run for pair in pairs for run in pair):
            continue
        gaps = [w[metric] - d[metric] for d, w in pairs]
        found[metric] = {
            "default": mean(d[metric] for d, _ in pairs),
            "winner": mean(w[metric] for _, w in pairs),
            "difference": mean(gaps),
            "spread": stdev(gaps) if len(gaps) > 1 else None,
            "each": gaps,
        }
    return found


def _figures(
    journal: Journal, sweep: Sweep, rows: Sequence[Row], curve: Sequence[Mapping]
) -> list[tuple[str, str, Figure | None]]:
    keys, first = list(sweep.search), sweep.objectives[0]
    found: list[tuple[str, str, Figure | None]] = []
    for place, objective in enumerate(sweep.objectives):
        name = "heat" if place == 0 else f"heat-{place}"
        figure = pictures.heat_map(rows, keys, objective)
        text = f"{objective.metric} over the settings; the best is framed, * was stopped early."
        found.append((name, text, figure))
        if place == 0 and (figure is None or not pictures.all_fit(rows, keys)):
            text = f"{objective.metric} over each setting; hollow points were stopped early."
            found.append(("slices", text, pictures.slices(rows, keys, objective)))
    known = {
        o.metric: {r.number: series(journal, r.number, o.metric) for r in rows}
        for o in sweep.objectives
    }
    parallel = pictures.parallel(rows, keys, sweep.objectives)
    along = pictures.curves(rows, sweep.objectives, known)
    trade = pictures.pareto(rows, sweep.objectives, curve)
    end = max((row.rounds for row in rows), default=0)
    changed = pictures.schedules(_lives(journal), keys, end)
    found.append(("pareto", "What is traded for what; numbers are trials.", trade))
    found.append(
        (
            "parallel",
            f"Every trial; the best in {first.metric} in orange, dotted: stopped.",
            parallel,
        )
    )
    found.append(("curves", "Over the rounds; a cross where a trial was given up.", along))
    found.append(
        ("schedules", "The population's settings; a dot where a place was taken.", changed)
    )
    return found


def _lives(journal: Journal) -> dict[int, list[tuple[int, dict[str, Any]]]]:
    """(first round, settings) of each life of each trial."""
    entries = journal.entries(PERTURBATIONS)
    lives = {}
    for trial in journal.trials.values():
        mine = [entry for entry in entries if entry["who"] == trial.number]
        own = {k: v[0] for k, v in mine[0]["settings"].items()} if mine else trial.settings
        later = [(e["round"], {k: v[1] for k, v in e["settings"].items()}) for e in mine]
        lives[trial.number] = [(trial.starts[0], own), *later]
    return lives


def _summary(sweep: Sweep, rows: Sequence[Row]) -> str:
    counts = {status: sum(row.status == status for row in rows) for status in _order(rows)}
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    aims = " and ".join(f"{o.mode} {o.metric}" for o in sweep.objectives)
    seconds = sum(row.seconds for row in rows)
    shared = ", ".join(sweep.warm_start.stages)
    return (
        f"{len(rows)} trials ({told}) over {', '.join(sweep.search)}; {aims}; "
        f"searcher {sweep.searcher}, scheduler {sweep.scheduler}"
        + (f"; shared stages: {shared}" if shared else "")
        + f"; {seconds / 60:.1f} trial minutes."
    )


def _order(rows: Sequence[Row]) -> list[str]:
    return [
        s for s in ("finished", "stopped", "failed", "running") if any(r.status == s for r in rows)
    ]


def _winner(folder: Path, sweep: Sweep, winner: Row | None) -> list[str]:
    if winner is None:
        return ["<p>No trial has logged the objective.</p>"]
    first = sweep.objectives[0]
    told = ", ".join(
        f"{short(k, list(sweep.search))}={number(v)}" for k, v in winner.settings.items()
    )
    return [
        f"<h2>Best: trial {winner.number}</h2>",
        f"<p>{html.escape(told)}: {html.escape(first.metric)} "
        f"{winner.values[first.metric]:.4g}, {html.escape(winner.status)}.</p>",
        f"<pre>python launch/train.py {html.escape(str(folder / BEST))}</pre>",
    ]


def _table(sweep: Sweep, rows: Sequence[Row], winner: Row | None) -> str:
    first, keys = sweep.objectives[0], list(sweep.search)
    names = [short(key, keys) for key in keys]
    metrics = [o.metric for o in sweep.objectives]
    head = "".join(f"<th>{html.escape(n)}</th>" for n in ["trial", *names, *metrics])
    head += '<th>rounds</th><th>seconds</th><th class="text">end</th>'
    worst = float("-inf")
    ranked = sorted(
        rows, key=lambda r: -first.better(r.values[first.metric]) if r.values else -worst
    )
    lines = []
    for row in ranked:
        cells = [str(row.number), *(number(row.settings.get(k)) for k in keys)]
        cells += [number(row.values[m]) if m in row.values else "-" for m in metrics]
        cells += [str(row.rounds), f"{row.seconds:.0f}"]
        kind = "best" if row is winner else row.status
        why = f"{row.status}{': ' if row.reason else ''}{row.reason}"
        text = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        lines.append(f'<tr class="{kind}">{text}<td class="why">{html.escape(why)}</td></tr>')
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _perturbations(journal: Journal) -> list[str]:
    entries = journal.entries(PERTURBATIONS)
    if not entries:
        return []
    lines = []
    for e in entries:
        told = ", ".join(f"{k}: {number(a)} → {number(b)}" for k, (a, b) in e["settings"].items())
        lines.append(
            f"<tr><td>{e['round']}</td><td>{e['who']}</td><td>{e['from']}</td>"
            f'<td class="text">{html.escape(told)}</td></tr>'
        )
    head = '<tr><th>round</th><th>trial</th><th>from</th><th class="text">settings</th></tr>'
    return ["<h2>Places taken</h2>", f"<table>{head}{''.join(lines)}</table>"]


def _confirmed(folder: Path) -> list[str]:
    path = folder / CONFIRMED
    if not path.exists():
        return []
    told = json.loads(path.read_text())
    lines = []
    for metric, each in told["differences"].items():
        spread = f" ± {each['spread']:.3g}" if each["spread"] is not None else ""
        seeds = ", ".join(f"{gap:+.3g}" for gap in each["each"])
        lines.append(
            f'<tr><td class="text">{html.escape(metric)}</td><td>{each["default"]:.4g}</td>'
            f"<td>{each['winner']:.4g}</td><td>{each['difference']:+.3g}{spread}</td>"
            f"<td>{seeds}</td></tr>"
        )
    head = '<tr><th class="text"></th><th>default</th><th>best</th><th>difference</th><th>each</th>'
    return [
        f"<h2>Run again on {len(told['seeds'])} new seeds</h2>",
        f"<p>Seeds {', '.join(map(str, told['seeds']))}; ± is the standard deviation over "
        "seeds of best minus default.</p>",
        f"<table>{head}</tr>{''.join(lines)}</table>",
    ]


def _embedded(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
