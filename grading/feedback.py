"""What comes out beside the scores: a page a student, the texts to be marked, a figure of the class."""

import html
import json
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from gptlib import plots
from grading.checks import Assignment, Result

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; }}
table {{ border-collapse: collapse; width: 100%; }}
td, th {{ border-bottom: 1px solid #ddd; padding: .3rem .5rem; text-align: left; vertical-align: top; }}
td.points {{ white-space: nowrap; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; background: #f5f5f5; padding: .5rem; }}
@media (prefers-color-scheme: dark) {{
  body {{ background: #121212; color: #ddd; }} td, th {{ border-color: #444; }} pre {{ background: #222; }}
}}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all."""
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(text, encoding="utf-8", errors="replace")
    os.replace(temporary, path)


def title_of(question: dict) -> str:
    """Return the heading of a question's prompt."""
    return question["prompt"].strip().split("\n")[0].lstrip("# ")


def write_page(folder: Path, student: str, result: Result, assignment: Assignment) -> None:
    """Write a student's page; of hidden checks it tells that they failed, not what they are."""
    body = []
    if result.status != "graded":
        body.append(f"<p><strong>Not graded: {html.escape(result.status)}</strong></p>")
    most = sum(question["points"] for question in assignment.graded)
    body.append(
        f"<p><strong>{result.total:g} of {most:g} points</strong>, before what is marked by hand.</p>"
    )
    told = result.told()
    for question in assignment.questions:
        body.append(f"<h2>{html.escape(title_of(question))}</h2>")
        if question["manual"]:
            text = result.answers.get(question["name"], "")
            body.append(f"<p>Marked by hand. Your answer:</p><pre>{html.escape(text)}</pre>")
            continue
        body.append(f"<p>{result.points(question['name']):g} of {question['points']:g} points</p><table>")
        body += [_line(*line[1:]) for line in told if line[0] == question["name"]]
        body.append("</table>")
    if result.errors:
        body.append(f"<h2>Cells that raised an error</h2><pre>{html.escape(result.raised)}</pre>")
    page = PAGE.format(title=html.escape(f"{assignment.name}: {student}"), body="\n".join(body))
    write_whole(folder / f"{student}.html", page)
    write_whole(folder / f"{student}.json", json.dumps({"answers": result.answers}))


def _line(name: str, message: str, check: dict) -> str:
    earned = check["points"] if check["passed"] else 0
    points = f"{earned:g} / {check['points']:g}" if check["points"] else ""
    return f'<tr><td>{name}</td><td class="points">{points}</td><td>{html.escape(message)}</td></tr>'


def write_answers(out: Path, students: list[str], assignment: Assignment) -> None:
    """Write a page for each question marked by hand: its rubric, and all answers."""
    answers = {}
    for student in students:
        kept = out / "feedback" / f"{student}.json"
        answers[student] = json.loads(kept.read_text(encoding="utf-8"))["answers"] if kept.exists() else {}
    for question in assignment.questions:
        if question["manual"]:
            body = [f"<pre>{html.escape(question['prompt'])}\n\n{html.escape(question['rubric'])}</pre>"]
            for student in sorted(answers):
                text = html.escape(answers[student].get(question["name"], ""))
                body.append(f"<h2>{html.escape(student)}</h2><pre>{text}</pre>")
            page = PAGE.format(title=html.escape(f"To be marked: {question['name']}"), body="\n".join(body))
            write_whole(out / f"to_mark_{question['name']}.html", page)


def statistics(out: Path, rows: list[dict], assignment: Assignment) -> None:
    """Draw, for each question, the share of its points that each student earned, and the mean."""
    questions = assignment.graded
    counted = [row for row in rows if row["status"] == "graded"]
    fig, (ax,) = plots.figure(height=1 + 0.45 * len(questions))
    for place, question in enumerate(questions):
        shares = [100 * float(row[question["name"]]) / question["points"] for row in counted]
        if shares:
            ax.barh(place, sum(shares) / len(shares), color=plots.COLORS["train"], height=0.6)
            beside = np.linspace(place - 0.25, place + 0.25, len(shares))
            ax.scatter(shares, beside, color=plots.COLORS["model"], s=18, alpha=0.6, zorder=3)
    ax.set_yticks(range(len(questions)), [question["name"] for question in questions])
    ax.invert_yaxis()
    ax.set(xlim=(-2, 102), xlabel="points earned, in percent (bar: mean; dots: students)")
    ax.set_title(f"{assignment.name}: {len(counted)} graded of {len(rows)}")
    fig.savefig(out / "statistics.png", dpi=150)
    plt.close(fig)
