"""Each widget, in its built page and by keyboard, shows what Python computes from the same rows."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import expect

from gptlib.record import recorded
from gptlib.scaling import JointFit

STATES = 'script[type="application/vnd.jupyter.widget-state+json"]'


@pytest.fixture
def opened(browser, site_url):
    """Open a chapter; return its widget that has a control of some label, and the widget's saved state."""
    pages = []

    def open_(chapter, label, trait):
        page = browser.new_page()
        pages.append(page)
        page.goto(f"{site_url}notebooks/{chapter}.html")
        models = json.loads(page.locator(STATES).text_content())["state"].values()
        [state] = [model["state"] for model in models if trait in model["state"]]
        return page.locator(".widget", has=page.get_by_label(label)), state

    yield open_
    for page in pages:
        page.close()


def test_more_compute_goes_to_size_and_text_alike_and_the_loss_is_the_fit_s(opened):
    widget, state = opened("03_scaling_laws", "compute C, FLOPs", "constants")
    fit = JointFit(**state["constants"], intervals={}, draws=np.empty((0, 5)))
    n, d = (math.log10(x) for x in state["runs"][-1][:2])
    said = widget.locator("[aria-live]")
    expect(said).to_contain_text(f"Predicted loss {fit.predict(10**n, 10**d):.3f} ")
    compute = widget.get_by_label("compute C, FLOPs")
    for _ in range(50):
        compute.press("ArrowLeft")
    moved = float(compute.input_value()) - math.log10(state["per_token"])
    least_n, least_d = (min(math.log10(run[i]) for run in state["runs"]) - 0.7 for i in range(2))
    assert moved < n + d - 0.4 and min(n - least_n, d - least_d) > 0.3  # and so nothing was cut off
    n, d = (x + (moved - n - d) / 2 for x in (n, d))
    expect(said).to_contain_text(f"Predicted loss {fit.predict(10**n, 10**d):.3f} ")
    flops = 10 ** float(compute.input_value())
    widget.get_by_role("button").press("Enter")
    best = fit.predict(*fit.optimal(flops, state["per_token"]))
    expect(said).to_contain_text(f"Predicted loss {best:.3f} ")


def test_more_shots_change_the_prompt_and_each_model_s_bars(opened):
    widget, state = opened("04_in_context_learning", "shots", "predictions")
    shots = widget.get_by_label("shots")

    def bars(name):
        chart = widget.get_by_text(name, exact=True).locator("xpath=following-sibling::div")
        return re.findall(r"(\S.*)\n+([01]\.\d\d)", chart.inner_text())

    for key, k in (("Home", 0), ("End", 15), ("ArrowLeft", 14)):
        shots.press(key)
        expect(widget.get_by_label("shots")).to_have_value(str(k))
        assert widget.locator("pre").inner_text().count("=>") == k + 1
        for name, stored in zip(state["names"], state["predictions"], strict=True):
            assert bars(name) == [(word.strip() or "(line end)", f"{p:.2f}") for word, p in stored[0][k]]


def answer(run):
    """The words after the last "answer" of a stored run."""
    words = [token.split("\t")[0] for token in run["tokens"]]
    words = [word for word in words if word != "\n"]
    return " ".join(words[len(words) - words[::-1].index("answer") :])


def test_a_changed_result_changes_the_answer(opened):
    widget, state = opened("06_chain_of_thought", "token", "problems")
    problem = state["problems"][0]
    own, *others = problem["runs"]
    said = widget.locator("[aria-live]")
    expect(said).to_contain_text(f"The model answers {answer(own)}: ")
    shown = [token.split("\t")[0] for token in own["tokens"]]
    at = {step: token for step, token, _ in problem["places"]}
    changed = next(
        run for run in others if answer(run) != answer(own) and run["result"] != shown[at[run["step"]]]
    )
    widget.get_by_label(f"result of step {changed['step'] + 1}").select_option(changed["result"])
    expect(said).to_contain_text(f"The model answers {answer(changed)}: ")
    if answer(changed) == changed["follows"]:
        expect(said).to_contain_text("it follows the change")


def gains(seed):
    """The recorded policies of a seed by name: distance from SFT, and gains in score and gold."""
    names = {"ppo": "PPO", "ppo-ptx": "PPO-ptx", "grpo": "GRPO", "dpo": "DPO"}
    runs = recorded("alignment-cpu").query("seed == @seed and method in @names")
    runs = runs.assign(
        name=[f"{names[m]}, β = {s:g}" for m, s in zip(runs.method, runs.strength, strict=True)]
    )
    best = recorded("best_of_n-cpu").query("seed == @seed and n > 1")
    table = pd.concat([runs, best.assign(name=[f"best of {n}" for n in best.n])]).set_index("name")
    table["score"] = table.proxy - table["proxy before"]
    table["gold"] -= table["gold before"]
    table = table[["kl", "score", "gold"]]
    return pd.concat([table, pd.DataFrame(0.0, index=["SFT"], columns=table.columns)])


def test_without_a_price_the_reward_model_chooses_what_the_gold_reward_would_not(opened):
    widget, _ = opened("07_alignment", "price of a nat", "rows")
    price, said = widget.get_by_label("price of a nat"), widget.locator("[aria-live]")
    for seed in (0, 1, 2):
        widget.get_by_label("seed").select_option(str(seed))
        table = gains(seed)
        for key, beta in (("Home", 0.0), ("End", 3.0)):
            price.press(key)
            expect(said).to_contain_text(f"At a price of {beta:g} a nat")
            worth = table[["score", "gold"]].sub(beta * table.kl, axis=0)
            by_score, by_gold = worth.idxmax()
            expect(said).to_contain_text(f"the reward model chooses {by_score} (")
            if beta:
                assert by_score == by_gold == "SFT"
                expect(said).to_contain_text("would choose the same")
            else:
                lost = table.gold[by_gold] - table.gold[by_score]
                assert lost > 0.2
                expect(said).to_contain_text(f"would choose {by_gold} (")
                expect(said).to_contain_text(f"costs {lost:.2f} of gold")


def test_the_choice_is_among_the_runs_that_are_shown(opened):
    widget, _ = opened("07_alignment", "price of a nat", "rows")
    said, table = widget.locator("[aria-live]"), gains(0)
    widget.get_by_label("price of a nat").press("Home")
    for method in ("PPO", "best of n"):
        widget.get_by_role("checkbox", name=method, exact=True).press("Space")
    table = table[~table.index.str.startswith(("PPO, ", "best"))]
    expect(said).to_contain_text(f"the reward model chooses {table.score.idxmax()} (")
    widget.locator("summary").press("Enter")
    assert widget.locator("tbody tr, table tr").count() == 1 + len(table)


def test_a_click_in_the_annotator_s_panel_is_counted_and_compared(opened):
    widget, state = opened("07_alignment", "you, the annotator", "agrees")
    first, second = state["pairs"][:2]
    expect(widget.locator("pre")).to_have_text(first[0])
    widget.get_by_role("button").nth(1).press("Enter")
    expect(widget.locator("pre")).to_have_text(second[0])
    agree = state["agrees"][state["judges"].index("the gold reward")][0][1]
    expect(widget).to_contain_text(f"1 choice made, {len(state['pairs']) - 1} to go")
    expect(widget).to_contain_text(f"you agree {100 * agree}% with the gold reward")
